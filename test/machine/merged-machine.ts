/** Merges many machine files into one, so that one server serves all their devices. */
import fc from 'fast-check';
import { parseMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { DocumentError } from '../../src/machine/yaml.ts';
import { machine } from './arbitrary-machine.ts';

interface File {
  ports: { name: string; parent?: string | undefined }[];
  devices: { name: string; port: string; physfn?: string | undefined }[];
}

/**
 * `count` files of the seed, without those that are refused or conflict with the others. Ports without a device are
 * left out: a machine has 31 root ports, which they would take from the devices of later files.
 */
export function mergedMachine(count: number, seed: number): MachineDescription {
  const files = fc.sample(machine, { numRuns: count, seed }) as unknown as File[];
  let whole: File & { machine: string } = { machine: 'merged', ports: [], devices: [] };
  let description: MachineDescription | null = null;
  for (const [i, { ports: all, devices }] of files.entries()) {
    const ports = portsInUse(all, devices);
    const own = <T extends string | undefined>(name: T): T => (name === undefined ? name : (`m${i}-${name}` as T));
    const next = {
      ...whole,
      ports: [...whole.ports, ...ports.map((port) => ({ ...port, name: own(port.name), parent: own(port.parent) }))],
      devices: [
        ...whole.devices,
        ...devices.map((one) => ({ ...one, name: own(one.name), port: own(one.port), physfn: own(one.physfn) })),
      ],
    };
    try {
      description = parseMachine(JSON.stringify(next), 'merged.yaml');
      whole = next;
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
    }
  }
  return description!;
}

/** The ports with a device, and those above them. */
function portsInUse(ports: File['ports'], devices: File['devices']): File['ports'] {
  const names = new Set(devices.map(({ port }) => port));
  // A port comes after the one above it.
  for (const { name, parent } of [...ports].reverse()) if (names.has(name) && parent !== undefined) names.add(parent);
  return ports.filter(({ name }) => names.has(name));
}
