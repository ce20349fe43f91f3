/**
 * The page's HTTP server: its files, one stream of events, /metrics and commands. It runs on the main thread of its
 * process, never on one that serves devices.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type HttpAddress, isOwnHost, urlHost } from './address.ts';
import type { Board } from './board.ts';
import { type PageFile, pageFiles } from './page-files.ts';
import type { Screens } from './screens.ts';
import { Viewers } from './viewers.ts';

const MAX_CONNECTIONS = 512;
const MAX_BODY_BYTES = 4096;
/** A request must be complete within this time. */
const REQUEST_MS = 10_000;
const HEADERS_MS = 5_000;
const CHECK_MS = 500;

const SAFE_HEADERS = {
  'content-security-policy': "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

export interface PageOptions {
  readonly address: HttpAddress;
  readonly board: Board;
  /** The head of a request must be complete within this time. */
  readonly headersMs?: number;
  /** Files beside those of every page, by their paths. They may come while the server runs. */
  readonly more?: ReadonlyMap<string, PageFile>;
  /** The screens of devices, at screen/DEVICE.png. */
  readonly screens?: Screens;
  /** Called with the number of viewers after each change. */
  readonly onViewers?: (count: number) => void;
  /** Returns the content type and the text of /metrics. */
  readonly metrics?: () => Promise<{ type: string; text: string }>;
  /**
   * Runs a command of the page. With it, all paths begin with a secret token. Rejects with the reason, in one
   * sentence.
   */
  readonly control?: (command: unknown) => Promise<void>;
}

export class PageServer {
  readonly viewers: Viewers;
  /** The page's address, with the token if there is one. */
  readonly url: string;
  private readonly options: PageOptions;
  private readonly server: Server;
  private readonly address: HttpAddress;
  /** Null where the page may only look. */
  private readonly token: string | null;

  private constructor(options: PageOptions, server: Server, token: string | null) {
    this.options = options;
    this.server = server;
    this.token = token;
    const { port } = server.address() as AddressInfo;
    this.address = { host: options.address.host, port };
    this.url = `http://${urlHost(options.address.host)}:${port}/${token === null ? '' : `${token}/`}`;
    this.viewers = new Viewers(options.board, (count) => options.onViewers?.(count));
  }

  /** Listens. Rejects with Node's error where the address cannot be had. */
  static async start(options: PageOptions): Promise<PageServer> {
    const token = options.control === undefined ? null : randomBytes(18).toString('base64url');
    let page: PageServer | null = null;
    const server = createServer(
      {
        headersTimeout: options.headersMs ?? HEADERS_MS,
        requestTimeout: REQUEST_MS,
        connectionsCheckingInterval: CHECK_MS,
        maxHeaderSize: 8192,
      },
      (request, response) => {
        response.on('error', () => {});
        page!.onRequest(request, response).catch((error: Error) => fail(response, 500, error.message));
      },
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(options.address.port, options.address.host);
    await once(server, 'listening');
    page = new PageServer(options, server, token);
    return page;
  }

  /** Ends every connection. */
  close(): void {
    this.viewers.close();
    this.server.close();
    this.server.closeAllConnections();
  }

  private async onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(SAFE_HEADERS)) response.setHeader(name, value);
    const { host, origin } = request.headers;
    if (!isOwnHost(host, this.address)) return fail(response, 403, 'this Host is not this server');
    if (origin !== undefined && origin !== `http://${host}`) return fail(response, 403, 'a page of another origin');
    const path = this.pathOf(request.url ?? '/');
    if (path === null) return fail(response, 403, 'the address lacks the token that `barter serve` printed');
    if (path === '/control') return this.onControl(request, response);
    if (request.method !== 'GET' && request.method !== 'HEAD') return fail(response, 405, 'GET only');
    if (path === '/events') {
      if (!this.viewers.add(response)) fail(response, 503, 'too many pages are open');
      return;
    }
    if (path === '/metrics' && this.options.metrics !== undefined) {
      const { type, text } = await this.options.metrics();
      return reply(response, 200, type, text);
    }
    const device = /^\/screen\/([^/]+)\.png$/.exec(path)?.[1];
    if (device !== undefined) return this.onScreen(device, response);
    const file = pageFiles().get(path === '/' ? '/index.html' : path) ?? this.options.more?.get(path);
    if (file === undefined) return fail(response, 404, 'there is nothing here');
    if (file.policy !== undefined) response.setHeader('content-security-policy', file.policy);
    reply(response, 200, file.type, file.bytes);
  }

  private async onScreen(device: string, response: ServerResponse): Promise<void> {
    const png = this.options.screens?.png(device) ?? null;
    if (png === null) return fail(response, 404, 'there is no such screen');
    try {
      reply(response, 200, 'image/png', Buffer.from(await png));
    } catch (error) {
      // Not a failure of the request: a screen may show nothing, and a page that polls would report each one.
      reply(response, 200, 'text/plain; charset=utf-8', (error as Error).message);
    }
  }

  /** The path below the token; null where the token is missing or wrong. */
  private pathOf(url: string): string | null {
    const path = url.split('?')[0];
    if (this.token === null) return path;
    const [, given, ...rest] = path.split('/');
    const wanted = Buffer.from(this.token);
    const bytes = Buffer.from(given ?? '');
    if (bytes.length !== wanted.length || !timingSafeEqual(bytes, wanted)) return null;
    return `/${rest.join('/')}`;
  }

  private async onControl(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { control } = this.options;
    if (control === undefined) return fail(response, 403, 'this page may only look: start the server with --control');
    if (request.method !== 'POST') return fail(response, 405, 'POST only');
    // A form of another site cannot send this type, nor this header, without asking first.
    if (request.headers['content-type'] !== 'application/json') return fail(response, 415, 'application/json only');
    if (request.headers.origin === undefined) return fail(response, 403, 'a request without an Origin');
    const body = await bodyOf(request);
    if (body === null) return fail(response, 413, 'a command is short');
    try {
      await control(JSON.parse(body));
      reply(response, 200, 'application/json', '{"ok":true}');
    } catch (error) {
      reply(response, 422, 'application/json', JSON.stringify({ ok: false, error: (error as Error).message }));
    }
  }
}

/** Null where it is too long. */
async function bodyOf(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function reply(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
}

function fail(response: ServerResponse, status: number, why: string): void {
  if (response.headersSent) response.destroy();
  else reply(response, status, 'text/plain; charset=utf-8', `${why}\n`);
}
