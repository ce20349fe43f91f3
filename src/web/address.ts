/** The address of --http: [HOST:]PORT, on the loopback interface unless it names another. */
import { isIP } from 'node:net';
import { hostname } from 'node:os';

export interface HttpAddress {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

/** Returns null for any other text. An IPv6 address is in brackets: [::1]:8080. */
export function parseHttpAddress(text: string): HttpAddress | null {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[\w.-]+):)?(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const host = (match[1] ?? '127.0.0.1').replace(/^\[|\]$/g, '');
  const port = Number(match[2]);
  return port > 65_535 ? null : { host, port };
}

/** The host as a URL has it. */
export function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}

/**
 * Whether a Host header may name this server. A page of another site that makes its own name resolve to this address
 * (DNS rebinding) sends that name. An address in digits is looked up nowhere, so it cannot be rebound: any is accepted,
 * also those of other interfaces and of tunnels. `localhost` and this machine's name belong to this machine.
 */
export function isOwnHost(header: string | undefined, address: HttpAddress): boolean {
  const match = /^(\[[0-9a-fA-F:.]+\]|[\w.-]+?)(?::(\d+))?$/.exec(header ?? '');
  if (match === null || Number(match[2] ?? 80) !== address.port) return false;
  const host = match[1].replace(/^\[|\]$/g, '').toLowerCase();
  return isIP(host) !== 0 || [address.host, 'localhost', hostname()].some((own) => own.toLowerCase() === host);
}
