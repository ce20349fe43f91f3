/**
 * Drives a headless Chromium by the DevTools protocol over a pipe: just enough to open a page and query it. Messages
 * are JSON and end with a zero byte, on the browser's descriptors 3 and 4.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

interface CdpMessage {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** The browser's command on this machine, or null. */
export function findChromium(): string | null {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      execFileSync(name, ['--version'], { stdio: 'ignore' });
      return name;
    } catch {
      // Try the next one.
    }
  }
  return null;
}

export class Page {
  /** Exceptions of scripts, and errors that the page logged. */
  readonly errors: string[] = [];
  /** The addresses of all requests by the page. */
  readonly requests: string[] = [];
  private readonly child: ChildProcess;
  private readonly profile: string;
  private readonly waiting = new Map<number, (message: CdpMessage) => void>();
  private readonly listeners = new Map<string, () => void>();
  private session: string | undefined;
  private next = 1;
  private rest = '';

  private constructor(browser: string) {
    this.profile = mkdtempSync(join(tmpdir(), 'barter-chromium-'));
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--remote-debugging-pipe'];
    // The browser ends by itself when the pipe closes, however this process ends.
    this.child = spawn(browser, [...flags, `--user-data-dir=${this.profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      detached: true,
    });
    (this.child.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => this.receive(text));
  }

  /** Opens a page and waits until it has loaded. */
  static async open(browser: string, url: string, width = 1280, height = 900): Promise<Page> {
    const page = new Page(browser);
    try {
      await page.navigate(url, width, height);
    } catch (error) {
      await page.close();
      throw error;
    }
    return page;
  }

  private async navigate(url: string, width: number, height: number): Promise<void> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    this.session = sessionId as string;
    for (const domain of ['Page', 'Runtime', 'Network', 'Log']) await this.send(`${domain}.enable`);
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.send('Emulation.setDeviceMetricsOverride', metrics);
    const loaded = new Promise<void>((resolve) => this.listeners.set('Page.loadEventFired', resolve));
    await this.send('Page.navigate', { url });
    await loaded;
  }

  /** Returns the value of an expression in the page, as JSON. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, returnByValue: true });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: T }).value;
  }

  async emulateDark(): Promise<void> {
    await this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: 'dark' }] });
  }

  async close(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
      // Its processes are one group, and all of them write to the profile.
      process.kill(-this.child.pid!, 'SIGKILL');
      await ended;
    }
    await rm(this.profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }

  private send(method: string, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const id = this.next++;
    if (this.child.exitCode !== null) return Promise.reject(new Error('Chromium has ended'));
    const message = { id, method, params, ...(this.session === undefined ? {} : { sessionId: this.session }) };
    (this.child.stdio[3] as Writable).write(`${JSON.stringify(message)}\0`);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, ({ result, error }) => {
        if (error !== undefined) reject(new Error(`${method}: ${error.message}`));
        else resolve(result ?? {});
      });
    });
  }

  private receive(text: string): void {
    const parts = (this.rest + text).split('\0');
    this.rest = parts.pop()!;
    for (const part of parts) this.handle(JSON.parse(part) as CdpMessage);
  }

  private handle({ id, method, params = {}, ...message }: CdpMessage): void {
    if (id !== undefined) {
      this.waiting.get(id)?.(message);
      this.waiting.delete(id);
      return;
    }
    if (method === 'Runtime.exceptionThrown') this.errors.push(JSON.stringify(params.exceptionDetails));
    if (method === 'Log.entryAdded') {
      const { level, text } = params.entry as { level: string; text: string };
      if (level === 'error') this.errors.push(text);
    }
    if (method === 'Network.requestWillBeSent') this.requests.push((params.request as { url: string }).url);
    this.listeners.get(method ?? '')?.();
  }
}
