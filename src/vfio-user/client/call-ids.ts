/** The numbers of a client's messages: the calls that wait for a reply, and those that no longer do. */
import { Errno } from '../../abi/errno.ts';
import type { Frame } from '../wire/frame.ts';

/** Replies that a server may owe to calls that have ended. Beyond it, the server is taken to be dead. */
const MAX_OWED = 1024;

export class CallIds {
  private readonly path: string;
  private last = 0;
  private readonly waiting = new Map<number, number>();
  /** Calls that ended before their reply came (a timeout, an abort, a refused descriptor), with their commands. */
  private readonly ended = new Map<number, number>();

  constructor(path: string) {
    this.path = path;
  }

  /** Takes a number for a message without a reply. */
  post(): number {
    do this.last = (this.last + 1) & 0xffff;
    while (this.ended.has(this.last) || this.waiting.has(this.last));
    return this.last;
  }

  /** Takes a number that no reply under way has. ETIMEDOUT where the server owes too many replies. */
  take(command: number): number {
    if (this.ended.size >= MAX_OWED) {
      throw new Errno('ETIMEDOUT', `${this.path}: the server owes ${MAX_OWED} replies; connect anew`);
    }
    if (this.waiting.size >= MAX_OWED) {
      throw new Errno('ENOBUFS', `${this.path}: ${MAX_OWED} calls wait for their replies; await some of them first`);
    }
    const id = this.post();
    this.waiting.set(id, command);
    return id;
  }

  /** The call `id` ends. `isOwed`: its reply may still come, and will be dropped. */
  end(id: number, isOwed: boolean): void {
    const command = this.waiting.get(id);
    this.waiting.delete(id);
    if (isOwed && command !== undefined) this.ended.set(id, command);
  }

  /**
   * Returns the call that a reply is for; null for the late reply to a call that has ended. EPROTO for a reply that
   * nobody asked for: then no later reply can be trusted.
   */
  match({ id, command }: Frame): number | null {
    if (this.waiting.get(id) === command) return id;
    if (this.ended.get(id) === command) {
      this.ended.delete(id);
      return null;
    }
    const asked = this.waiting.get(id) ?? this.ended.get(id);
    const what = asked === undefined ? 'which nobody asked for' : `which had command ${asked}`;
    throw new Errno('EPROTO', `a reply to message ${id} (command ${command}), ${what}`);
  }
}
