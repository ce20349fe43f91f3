/** Frames of a capture as tshark shows them with our dissector. */
import { fileURLToPath } from 'node:url';
import { wireshark } from './tshark.ts';

export const DISSECTOR = fileURLToPath(new URL('../../docs/wireshark/barter-vfio-user.lua', import.meta.url));

/** The fields of a frame, at any depth. */
export class Layers {
  private readonly values = new Map<string, string>();

  constructor(layers: object) {
    this.collect(layers);
  }

  has(field: string): boolean {
    return this.values.has(field);
  }

  text(field: string): string {
    const value = this.values.get(field);
    if (value === undefined) throw new Error(`no ${field} in: ${[...this.values.keys()].join(' ')}`);
    return value;
  }

  number(field: string): number {
    return Number(this.text(field));
  }

  private collect(layers: object): void {
    for (const [name, value] of Object.entries(layers)) {
      if (typeof value === 'string') this.values.set(name, value);
      else if (typeof value === 'object' && value !== null) {
        this.values.set(name, this.values.get(name) ?? '');
        this.collect(value);
      }
    }
  }
}

/** Two passes, so that a command knows the frame of its reply. */
const options = (path: string) => ['-2', '-X', `lua_script:${DISSECTOR}`, '-r', path];

export function dissected(path: string): Layers[] {
  const packets = JSON.parse(wireshark('tshark', ...options(path), '-T', 'json')) as { _source: { layers: object } }[];
  return packets.map(({ _source }) => new Layers(_source.layers));
}

/** The column Info of each frame. */
export function infosOf(path: string): string[] {
  return wireshark('tshark', ...options(path), '-T', 'fields', '-e', '_ws.col.Info')
    .split('\n')
    .slice(0, -1);
}
