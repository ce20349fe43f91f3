/** One file of the suite: serves the contexts that its process asks for, and takes the verdicts. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readSync, writeSync } from 'node:fs';
import { ERRNO, Errno } from '../../../src/abi/errno.ts';
import { packageFile } from '../../../src/linux/package-file.ts';
import { socketPair } from '../../../src/linux/socket.ts';
import type { Plan } from './plan.ts';
import { type Callbacks, type ContextSpec, ServedContext } from './served-context.ts';

const RUNNER = 'lab/peers/suite/run_file.py';
const CHUNK_BYTES = 64 * 1024;

/** The result of one test. */
export interface SuiteTest {
  /** The file and the function: test_dma_map.test_dma_map_busy. */
  name: string;
  verdict: 'pass' | 'differs' | 'fail' | 'not-portable';
  /** The line of the test that failed; null for a test that passed or did not run. */
  failed: string | null;
  /** Why the test is not portable, or should fail. */
  reason: string | null;
}

/** The program that runs Python, with its first arguments. */
export type Interpreter = readonly [string, ...string[]];

/** Runs `file` of the suite in `folder`. `python` starts the interpreter. */
export async function runSuiteFile(
  python: Interpreter,
  folder: string,
  file: string,
  plan: Plan,
): Promise<SuiteTest[]> {
  const [ours, theirs] = socketPair(`tests of ${file}`);
  const [command, ...first] = python;
  const child = spawn(command, [...first, '-I', packageFile(RUNNER), folder, file], {
    stdio: ['ignore', 'ignore', 'pipe', theirs.fd],
  });
  let complaint = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const closed = once(child, 'close');
  theirs.close();
  const session = new SuiteSession(ours.fd, file, plan);
  try {
    session.serve();
  } finally {
    ours.close();
    child.kill();
  }
  await closed;
  return session.results(complaint);
}

/** A test whose failure the plan explains must fail: the plan is wrong otherwise. */
function judge(name: string, failed: string | null, reason: string | null): SuiteTest {
  if (failed === null && reason !== null) {
    return { name, verdict: 'fail', failed: `it passes, although plan.ts says: ${reason}`, reason: null };
  }
  if (failed === null) return { name, verdict: 'pass', failed, reason };
  return { name, verdict: reason === null ? 'fail' : 'differs', failed, reason };
}

type Question = { op: string } & Record<string, unknown>;

/** Answers questions of the tests' process, one at a time. The process waits for each answer, so the reads block. */
class SuiteSession {
  private readonly fd: number;
  private readonly file: string;
  private readonly plan: Plan;
  private readonly tests: SuiteTest[] = [];
  private readonly contexts = new Map<number, ServedContext>();
  private unread = '';
  /** The test that runs, for the case that its process ends. */
  private current: string | null = null;

  constructor(fd: number, file: string, plan: Plan) {
    this.fd = fd;
    this.file = file;
    this.plan = plan;
  }

  serve(): void {
    try {
      for (let question = this.receive(); question !== null; question = this.receive()) this.answer(question);
    } finally {
      for (const context of this.contexts.values()) context.destroy();
    }
  }

  /** The verdicts. `complaint` is the standard error of a process that ended in the middle of a test. */
  results(complaint: string): SuiteTest[] {
    const { current } = this;
    if (current === null && this.tests.length > 0) return this.tests;
    const failed = `the tests' process ended: ${complaint.trim().split('\n').at(-1)}`;
    return [...this.tests, { name: current ?? this.file, verdict: 'fail', failed, reason: null }];
  }

  private answer(question: Question): void {
    let answer: Record<string, unknown>;
    try {
      answer = { errno: 0, ...this.handle(question) };
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      answer = { errno: -error.errno };
    }
    this.send(answer);
  }

  private handle(question: Question): Record<string, unknown> | undefined {
    switch (question.op) {
      case 'constants':
        return { values: this.plan.constants };
      case 'begin':
        return this.begin(question.test as string);
      case 'verdict':
        return this.take(question.problem as string | null);
      case 'create':
        return this.create(question);
      default:
        return this.onContext(question, this.contexts.get(question.ctx as number)!);
    }
  }

  private begin(test: string): Record<string, unknown> {
    const name = `${this.file}.${test}`;
    const reason = this.plan.notPortable(name);
    if (reason !== null) this.tests.push({ name, verdict: 'not-portable', failed: null, reason });
    else this.current = name;
    return { skip: reason !== null, early: this.plan.early[name] ?? [] };
  }

  private take(problem: string | null): undefined {
    this.tests.push(judge(this.current!, problem, this.plan.difference(this.current!)));
    this.current = null;
  }

  private create({ ctx, ...spec }: Question): undefined {
    const call = (name: string, ...values: unknown[]) => this.call(name, ctx as number, ...values);
    const callbacks: Callbacks = {
      reset: (kind) => call('reset', kind),
      quiesce: () => call('quiesce'),
      dma: (...values) => call('dma', ...values),
    };
    this.contexts.set(ctx as number, new ServedContext(spec as unknown as ContextSpec, callbacks));
  }

  private onContext(question: Question, context: ServedContext): Record<string, unknown> | undefined {
    const number = (name: string) => question[name] as number;
    switch (question.op) {
      case 'attach':
        return { errno: context.attach() };
      case 'run':
        return { errno: context.run() };
      case 'quiesced':
        return { errno: context.quiesced() };
      case 'config':
        return { bytes: Buffer.from(context.config).toString('hex') };
      case 'trigger':
        context.trigger(number('vector'));
        return undefined;
      case 'doorbell':
        context.addDoorbell(number('region'), number('offset'), number('size'), number('datamatch'));
        return undefined;
      case 'ranges':
        return { ranges: context.ranges(number('address'), number('length')) };
      case 'dma':
        return { bytes: this.dma(context, question) };
      case 'destroy':
        context.destroy();
        this.contexts.delete(number('ctx'));
        return undefined;
      default:
        return { errno: ERRNO.ENOSYS };
    }
  }

  private dma(context: ServedContext, { address, length, isWrite, bytes }: Question): string {
    const data = isWrite === true ? Buffer.from(bytes as string, 'hex') : Buffer.alloc(length as number);
    context.dma(address as number, data, isWrite === true);
    return data.toString('hex');
  }

  /** Calls a function of the test, which may ask questions before it returns. */
  private call(name: string, ...values: unknown[]): number {
    this.send({ call: name, arguments: values });
    for (let line = this.receive(); line !== null; line = this.receive()) {
      if ('returned' in line) return line.returned as number;
      this.answer(line);
    }
    return ERRNO.ENOTCONN;
  }

  private send(document: Record<string, unknown>): void {
    const bytes = Buffer.from(`${JSON.stringify(document)}\n`);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at);
  }

  /** The next line; null where the process has ended. */
  private receive(): Question | null {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    while (!this.unread.includes('\n')) {
      const length = this.read(chunk);
      if (length === 0) return null;
      this.unread += chunk.toString('latin1', 0, length);
    }
    const end = this.unread.indexOf('\n');
    const line = this.unread.slice(0, end);
    this.unread = this.unread.slice(end + 1);
    return JSON.parse(line);
  }

  private read(chunk: Buffer): number {
    try {
      return readSync(this.fd, chunk);
    } catch (error) {
      // A process that was killed resets the connection.
      if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return 0;
      throw error;
    }
  }
}
