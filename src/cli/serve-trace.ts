/** The output of `barter serve` on stdout: a line when it is ready, and with --trace a line for each message. */
import { BoundedOutput } from '../linux/bounded-output.ts';
import type { TraceEvent } from '../vfio-user/server/message-trace.ts';

const STDOUT = 1;

export class ServeOutput {
  private readonly asJson: boolean;
  private readonly output: BoundedOutput;
  private firstMs: number | null = null;

  /** `onGone` is called when the reader of stdout is gone. */
  constructor(asJson: boolean, onGone: () => void) {
    this.asJson = asJson;
    this.output = new BoundedOutput(STDOUT, { lost: (lines) => this.lost(lines), onGone });
  }

  /** `http` is the address of the page, if there is one. */
  ready(devices: readonly { name: string; socket: string }[], http: string | null = null): void {
    if (this.asJson) {
      this.output.write(JSON.stringify({ ready: true, devices, ...(http === null ? {} : { http }) }));
      return;
    }
    const places = devices.map(({ name, socket }) => `${name} at ${socket}`);
    this.output.write(`ready: ${[...places, ...(http === null ? [] : [`page at ${http}`])].join(', ')}`);
  }

  /** In the text form, times are milliseconds since the first message. */
  trace(event: TraceEvent): void {
    if (this.asJson) {
      this.output.write(JSON.stringify(event));
      return;
    }
    if (event.lost !== undefined) this.output.write(this.lost(event.lost));
    const { atMs, device, message, lost: _, ...fields } = event;
    this.firstMs ??= atMs;
    const words = Object.entries(fields).map(([key, value]) => `${key}=${value}`);
    const time = (atMs - this.firstMs).toFixed(3).padStart(12);
    this.output.write(`${time}  ${device.padEnd(10)} ${message} ${words.join(' ')}`);
  }

  flush(): void {
    this.output.flush();
  }

  private lost(lines: number): string {
    return this.asJson ? JSON.stringify({ lost: lines }) : `${lines} messages were lost: the reader is too slow`;
  }
}
