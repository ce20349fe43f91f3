/** Steps on config space, as plain reads and writes: the same on every backend. */
import { Errno } from '../abi/errno.ts';
import {
  PCI_AF_CTRL,
  PCI_AF_CTRL_FLR,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_PM,
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_SIZE,
  PCI_COMMAND,
  PCI_COMMAND_MEMORY,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_PM_CTRL,
} from '../abi/pci_regs.ts';
import type { Task } from '../task/op.ts';
import type { StepOf } from './step.ts';

/** Config space as the user of a device reaches it. */
export interface ConfigAccess {
  /** For messages. */
  readonly name: string;
  read(offset: number, into: Uint8Array): Task<unknown>;
  write(offset: number, from: Uint8Array): Task<unknown>;
}

export type ConfigStep = StepOf<
  'config-read' | 'config-write' | 'cap-read' | 'cap-write' | 'memory' | 'power' | 'flr' | 'af-flr'
>;

export function* configStep(config: ConfigAccess, step: ConfigStep): Task<unknown> {
  switch (step.op) {
    case 'config-read':
      return yield* configRead(config, step.offset, step.size);
    case 'config-write':
      return yield* configWrite(config, step.offset, step.size, step.value);
    case 'cap-read':
      return yield* configRead(config, (yield* capability(config, step.cap, step.ext)) + step.offset, step.size);
    case 'cap-write': {
      const at = (yield* capability(config, step.cap, step.ext)) + step.offset;
      return yield* configWrite(config, at, step.size, step.value);
    }
    case 'memory':
      return yield* configWrite(config, PCI_COMMAND, 2, yield* memoryCommand(config, step.on));
    case 'power':
      return yield* configWrite(config, (yield* capability(config, PCI_CAP_ID_PM)) + PCI_PM_CTRL, 2, step.state);
    case 'flr': {
      const at = (yield* capability(config, PCI_CAP_ID_EXP)) + PCI_EXP_DEVCTL;
      return yield* configWrite(config, at, 2, (yield* configRead(config, at, 2)) | PCI_EXP_DEVCTL_BCR_FLR);
    }
    case 'af-flr':
      return yield* configWrite(config, (yield* capability(config, PCI_CAP_ID_AF)) + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR);
  }
}

/** The start of a capability in the list that the user sees. ENOENT where it is not in the list. */
function* capability(config: ConfigAccess, id: number, ext = false): Task<number> {
  const first = ext ? PCI_CFG_SPACE_SIZE : yield* configRead(config, PCI_CAPABILITY_LIST, 1);
  const seen = new Set<number>();
  for (let at = first; at !== 0 && !seen.has(at); ) {
    seen.add(at);
    const header = yield* configRead(config, at, 4);
    if ((header & (ext ? 0xffff : 0xff)) === id) return at;
    at = ext ? header >>> 20 : (header >>> 8) & 0xfc;
  }
  throw new Errno('ENOENT', `${config.name} has no ${ext ? 'extended ' : ''}capability 0x${id.toString(16)}`);
}

/** The value of PCI_COMMAND with the memory bit on or off and all other bits as they are. */
export function* memoryCommand(config: ConfigAccess, on: boolean): Task<number> {
  const command = yield* configRead(config, PCI_COMMAND, 2);
  return on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY;
}

function* configRead(config: ConfigAccess, offset: number, size: number): Task<number> {
  const into = Buffer.alloc(size);
  yield* config.read(offset, into);
  return into.readUIntLE(0, size);
}

export function* configWrite(config: ConfigAccess, offset: number, size: number, value: number): Task<void> {
  const from = Buffer.alloc(size);
  from.writeUIntLE(value % 2 ** (8 * size), 0, size);
  yield* config.write(offset, from);
}
