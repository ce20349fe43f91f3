/** The standard output of `barter serve`: a line when it is ready, then what --trace prints. */
import { BoundedOutput } from '../linux/bounded-output.ts';

const STDOUT = 1;

export class ServeOutput {
  readonly asJson: boolean;
  private readonly output: BoundedOutput;

  /** `onGone` is called when the reader of stdout is gone. */
  constructor(asJson: boolean, onGone: () => void) {
    this.asJson = asJson;
    this.output = new BoundedOutput(STDOUT, { lost: (lines) => this.lost(lines), onGone });
  }

  /** `http` is the address of the page, if there is one. */
  ready(devices: readonly { name: string; socket: string }[], http: string | null = null): void {
    if (this.asJson) {
      this.write(JSON.stringify({ ready: true, devices, ...(http === null ? {} : { http }) }));
      return;
    }
    const places = devices.map(({ name, socket }) => `${name} at ${socket}`);
    this.write(`ready: ${[...places, ...(http === null ? [] : [`page at ${http}`])].join(', ')}`);
  }

  write(line: string): void {
    this.output.write(line);
  }

  /** The line that tells how many lines were lost. */
  lost(lines: number): string {
    return this.asJson ? JSON.stringify({ lost: lines }) : `${lines} messages were lost: the reader is too slow`;
  }

  flush(): void {
    this.output.flush();
  }
}
