/**
 * A process that holds an importer of a dma-buf (barter import --fd N). It maps all of the buffer, obeys lines on its
 * stdin, unmaps at a revoke, and maps again at a restore. It prints each event as a line of JSON on stdout.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { writeSync } from 'node:fs';
import { Errno } from '../abi/errno.ts';
import { EPOLLIN, POLLIN } from '../abi/poll.ts';
import { Pinned, sys } from '../linux/ffi.ts';
import { Mapping } from '../linux/mapping.ts';
import { pollOne } from '../linux/poll.ts';
import type { Task } from '../task/op.ts';
import { runner } from '../task/runner.ts';
import { DmaBufImporter, type RemoteRanges } from '../vfio-user/dma-buf/importer.ts';
import { EventLoop } from '../vfio-user/wire/event-loop.ts';
import { median } from './median.ts';

const STDIN = 0;
const STDOUT = 1;
/** Runs of a copy that is measured. */
const COPIES = 7;

/** The events that it reports. */
export type ImporterReport =
  | { event: 'mapped'; bytes: number; ranges: number; exporter: string; name: string }
  | { event: 'revoked'; unmapMs: number }
  | { event: 'filled'; sha256: string }
  | { event: 'copied'; ms: number; memcpyMs: number }
  | { event: 'holding' }
  | { event: 'failed'; message: string }
  | { event: 'closed' };

class HeldImporter {
  private readonly loop = new EventLoop();
  private readonly importer: DmaBufImporter;
  private readonly input = new Pinned(4096);
  private text = '';
  private attachment = 0;
  private maps: Mapping[] = [];
  /** Never unmaps at a revoke: shows what happens to such an importer. */
  private ignoresInvalidate = false;

  constructor(fd: number) {
    this.importer = new DmaBufImporter(this.loop, fd, {
      onInvalidate: () => this.onInvalidate(),
      onRestore: () => this.start(this.map()),
      onClose: () => this.end({ event: 'closed' }),
    });
    this.loop.add(STDIN, EPOLLIN, () => this.onInput());
    this.start(this.attach());
  }

  run(): void {
    this.loop.run();
  }

  private *attach(): Task {
    yield* this.importer.opened();
    this.attachment = yield* this.importer.attach();
    yield* this.map();
  }

  private *map(): Task {
    const info = yield* this.importer.query();
    const mapped = yield* this.importer.map(this.attachment, true);
    this.maps = mapRanges(mapped);
    const { exporter, name, sizeBytes: bytes } = info;
    report({ event: 'mapped', bytes, ranges: this.maps.length, exporter, name });
  }

  /** Starts a task. Its failure is reported but does not end the process: a map may meet the next revoke. */
  private start(task: Task): void {
    runner.start('importer', reported(task));
  }

  private onInvalidate(): void {
    // An importer that ignores revokes blocks until stdin has a line, or ends.
    if (this.ignoresInvalidate) pollOne(STDIN, POLLIN, -1);
    const unmapMs = timeMs(() => this.letGo());
    // The exporter waits for the answer, which goes out when this function returns. The report comes after it.
    this.loop.after(0, () => report({ event: 'revoked', unmapMs }));
  }

  private letGo(): void {
    for (const map of this.maps.splice(0)) map.close();
  }

  private onInput(): void {
    const length = sys.read(STDIN, this.input.address, this.input.bytes.length);
    if (length <= 0) {
      this.end({ event: 'closed' });
      return;
    }
    const lines = (this.text + this.input.bytes.toString('utf8', 0, length)).split('\n');
    this.text = lines.pop()!;
    for (const line of lines) this.command(line.trim());
  }

  private command(line: string): void {
    if (line === 'fill') this.fill();
    else if (line === 'copy') this.copy();
    else if (line === 'hold') {
      this.ignoresInvalidate = true;
      report({ event: 'holding' });
    } else if (line !== '') report({ event: 'failed', message: `${line}: fill, copy or hold` });
  }

  /** Fills the buffer with random bytes, and reports their hash in the order of the buffer. */
  private fill(): void {
    const hash = createHash('sha256');
    for (const map of this.maps) {
      randomFillSync(map.bytes);
      hash.update(map.bytes);
    }
    report({ event: 'filled', sha256: hash.digest('hex') });
  }

  /** Reports the median times of a copy into the buffer and of a copy into the process's own memory. */
  private copy(): void {
    const sizeBytes = this.maps.reduce((sum, map) => sum + map.sizeBytes, 0);
    const [source, own] = [new Pinned(sizeBytes), new Pinned(sizeBytes)];
    source.bytes.fill(0x5a);
    const into = () => {
      for (let at = 0, i = 0; i < this.maps.length; at += this.maps[i++].sizeBytes) {
        sys.memcpy(this.maps[i].address, source.address + at, this.maps[i].sizeBytes);
      }
    };
    const times = { lent: [] as number[], own: [] as number[] };
    for (let run = 0; run < COPIES; run++) {
      times.lent.push(timeMs(into));
      times.own.push(timeMs(() => sys.memcpy(own.address, source.address, sizeBytes)));
    }
    report({ event: 'copied', ms: median(times.lent), memcpyMs: median(times.own) });
  }

  private end(last: ImporterReport): void {
    this.letGo();
    if (this.importer.isOpen) this.importer.close();
    else report(last);
    this.loop.stop();
  }
}

/** Blocks until stdin or the session ends. ENOTSOCK for a descriptor that is not a lent dma-buf. */
export function holdImporter(fd: number): void {
  new HeldImporter(fd).run();
}

function mapRanges({ fds, ranges }: RemoteRanges): Mapping[] {
  const maps: Mapping[] = [];
  try {
    for (const { fd, offset, sizeBytes } of ranges) {
      maps.push(Mapping.map({ fd: fd.fd, offset, sizeBytes, writable: true, what: 'lent memory' }));
    }
    return maps;
  } catch (error) {
    for (const map of maps) map.close();
    throw error;
  } finally {
    for (const fd of fds) fd.close();
  }
}

function* reported(task: Task): Task {
  try {
    yield* task;
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    report({ event: 'failed', message: error.message });
  }
}

function report(line: ImporterReport): void {
  writeSync(STDOUT, `${JSON.stringify(line)}\n`);
}

function timeMs(action: () => unknown): number {
  const began = performance.now();
  action();
  return performance.now() - began;
}
