/** `barter serve --pcap FILE`: every message of the devices' sockets, for Wireshark and for `barter replay`. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { Errno } from '../abi/errno.ts';
import { BoundedOutput } from '../linux/bounded-output.ts';
import { CaptureEncoder } from '../report/capture.ts';
import type { LogAbout } from '../vfio-user/wire/log.ts';
import type { TappedMessage } from '../vfio-user/wire/tap.ts';
import { reasonOf, UsageError } from './usage.ts';

/** Bytes that wait for a pipe's reader. Further messages are lost, and the file says how many. */
const MAX_WAITING_BYTES = 64 << 20;
const ABOUT: LogAbout = { level: 'warn', cause: 'full', client: '--pcap' };

/** Takes all of the bytes and returns true, or none of them and returns false. */
interface WholeOutput {
  writeBytes(bytes: Buffer): boolean;
  flush(): void;
}

export class ServeCapture {
  private readonly fd: number;
  private readonly output: WholeOutput;
  private readonly encoder = new CaptureEncoder();
  private hasBegun = false;
  private lost = 0;

  /**
   * Opens the file, or a pipe that has a reader. A new file is for its owner alone, since it holds memory of guests.
   * `log` hears when the file cannot be written.
   */
  constructor(path: string, log: (line: string, about: LogAbout) => void) {
    const { O_WRONLY, O_CREAT, O_NONBLOCK } = constants;
    try {
      this.fd = openSync(path, O_WRONLY | O_CREAT | O_NONBLOCK, 0o600);
    } catch (error) {
      const isUnread = (error as NodeJS.ErrnoException).code === 'ENXIO';
      throw new UsageError(
        `--pcap ${path}: ${isUnread ? 'nobody reads this pipe; start its reader' : reasonOf(error)}`,
      );
    }
    const isFile = fstatSync(this.fd).isFile();
    this.output = isFile
      ? new CaptureFile(this.fd, (why) => log(`--pcap ${path}: ${why}; messages are lost until it passes`, ABOUT))
      : new BoundedOutput(this.fd, { maxBytes: MAX_WAITING_BYTES });
  }

  /** Empties the file. Called when the server has its sockets: another server may be writing to the file until then. */
  begin(): void {
    if (this.hasBegun) return;
    if (fstatSync(this.fd).isFile()) ftruncateSync(this.fd);
    this.hasBegun = this.output.writeBytes(this.encoder.begin('barter serve'));
  }

  add(message: TappedMessage, lostBefore: number): void {
    this.lost += lostBefore;
    this.begin();
    if (this.hasBegun && this.output.writeBytes(this.encoder.encode(message, this.lost))) {
      this.encoder.wrote(message);
      this.lost = 0;
    } else this.lost += 1;
  }

  close(): void {
    this.output.flush();
    closeSync(this.fd);
  }
}

/**
 * A regular file that ends with a whole block at all times. A message goes out by one write(2), so that the end of the
 * process does not cut it. A full disk may: then the part is taken back, and the next message tries again.
 */
class CaptureFile implements WholeOutput {
  private readonly fd: number;
  private readonly onFault: (why: string) => void;
  private bytes = 0;
  private isFaulty = false;

  /** `onFault` is called with the reason when writing begins to fail. */
  constructor(fd: number, onFault: (why: string) => void) {
    this.fd = fd;
    this.onFault = onFault;
  }

  writeBytes(bytes: Buffer): boolean {
    const fault = this.append(bytes);
    if (fault !== null && !this.isFaulty) this.onFault(reasonOf(fault));
    this.isFaulty = fault !== null;
    if (fault === null) this.bytes += bytes.length;
    return fault === null;
  }

  flush(): void {}

  /** Returns the error that kept the bytes out, or null. */
  private append(bytes: Buffer): unknown {
    let fault: unknown = new Errno('ENOSPC', 'a part was written');
    try {
      if (writeSync(this.fd, bytes, 0, bytes.length, this.bytes) === bytes.length) return null;
    } catch (error) {
      fault = error;
    }
    try {
      ftruncateSync(this.fd, this.bytes);
    } catch {
      // The next message is written over the part.
    }
    return fault;
  }
}
