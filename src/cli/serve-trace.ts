/** The lines of `barter serve --trace`: one for each exchange. Loaded only with the option, since a start must be fast. */
import type { FdNote } from '../linux/fd-note.ts';
import type { FieldTexts } from '../vfio-user/exchange/describe.ts';
import { Exchanges, type TracedExchange } from '../vfio-user/exchange/exchanges.ts';
import type { TappedMessage } from '../vfio-user/wire/tap.ts';
import type { ServeOutput } from './serve-output.ts';

export class ServeTrace {
  private readonly output: ServeOutput;
  private readonly exchanges = new Exchanges((exchange) => this.exchange(exchange));
  private firstMs: number | null = null;

  constructor(output: ServeOutput) {
    this.output = output;
  }

  /** Prints an exchange when it is over. A reply whose command was lost prints nothing. */
  add(message: TappedMessage, lost: number): void {
    if (lost > 0) {
      this.output.write(this.output.lost(lost));
      this.exchanges.forget();
    }
    this.firstMs ??= message.atMs;
    this.exchanges.add(message);
  }

  private exchange(exchange: TracedExchange): void {
    const { output } = this;
    output.write(output.asJson ? JSON.stringify(exchange) : lineOf(exchange, this.firstMs ?? exchange.atMs));
  }
}

/** Times are milliseconds since the first message. An arrow says which way the command went. */
function lineOf(exchange: TracedExchange, firstMs: number): string {
  const { atMs, device, message, isOfServer, request, requestFds, reply, isUnanswered } = exchange;
  const time = (atMs - firstMs).toFixed(3).padStart(12);
  const sent = [message, words(request), descriptors(requestFds)].filter((part) => part !== '').join(' ');
  const head = `${time}  ${device.padEnd(10)} ${isOfServer ? '<' : '>'} ${sent}`;
  if (reply === null) return `${head}  ${isUnanswered ? 'no reply: the connection ended' : 'wants no reply'}`;
  const news = Object.fromEntries(Object.entries(reply.fields).filter(([name, value]) => request[name] !== value));
  const result = [reply.errno ?? 'ok', words(news), descriptors(reply.fds)].filter((part) => part !== '').join(' ');
  return `${head}  ${result}  ${reply.latencyMs.toFixed(3)} ms`;
}

function words(fields: FieldTexts): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

/** For example `[file of 67108864 bytes] [eventfd]`. */
function descriptors(fds: readonly FdNote[]): string {
  return fds.map(({ kind, sizeBytes }) => (kind === 'file' ? `[file of ${sizeBytes} bytes]` : `[${kind}]`)).join(' ');
}
