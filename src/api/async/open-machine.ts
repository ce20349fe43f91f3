/** Machines with a promise API for their devices: in process, served by Barter, or real. */
import { mkdtempSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildMachine } from '../../machine/build.ts';
import { loadMachine } from '../../machine/load.ts';
import type { MachineDescription } from '../../machine/schema.ts';
import { serveMachine } from '../../machine/served.ts';
import { EngineBackend } from '../../scenario/engine/backend.ts';
import { LinuxBackend } from '../../scenario/kernel/backend.ts';
import { VfioUserBackend } from '../../scenario/served/backend.ts';
import { asProfile, type Profile, type ProfileName } from '../../vfio/profile.ts';
import { UserDevice } from './device.ts';
import { Operations } from './operations.ts';

/** Options of `openMachine`. */
export interface OpenMachineOptions {
  /**
   * `engine` (the default): in this process. `vfio-user`: served by a thread of this process, each device over its
   * socket.
   */
  on?: 'engine' | 'vfio-user';
  /** The behaviour where Linux is laxer. Default: `default`. */
  profile?: ProfileName | Profile;
}

/** Devices by name. Its close also closes everything that is still open, and reports it as a warning. */
export class OpenMachine {
  private readonly operations: Operations;
  private readonly onClose: () => Promise<void>;

  /** @internal Made by `openMachine`, `connectDevices` and `openLinuxDevices`. */
  constructor(operations: Operations, onClose: () => Promise<void>) {
    this.operations = operations;
    this.onClose = onClose;
  }

  /**
   * Opens a device for a user of vfio. `vfToken`: 16 bytes, if a virtual function needs its physical function's token.
   */
  async open(device: string, options: { vfToken?: Uint8Array } = {}): Promise<UserDevice> {
    const token = options.vfToken === undefined ? {} : { vfToken: Buffer.from(options.vfToken).toString('hex') };
    await this.operations.perform({ op: 'open', device, ...token });
    return new UserDevice(this.operations, device);
  }

  /** Closes all that is still open, with a warning for each, and ends the server if the machine has one. */
  async close(): Promise<void> {
    try {
      await this.operations.dispose();
    } finally {
      await this.onClose();
    }
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const nothing = async (): Promise<void> => {};

/** Opens a machine from its file, or from a description. DocumentError for an invalid file. */
export async function openMachine(
  machine: string | MachineDescription,
  options: OpenMachineOptions = {},
): Promise<OpenMachine> {
  const description = typeof machine === 'string' ? loadMachine(machine) : machine;
  const { on = 'engine' } = options;
  const profile = asProfile(options.profile ?? 'default');
  if (on === 'engine') {
    const backend = new EngineBackend(buildMachine(description), profile);
    return new OpenMachine(new Operations(backend), nothing);
  }
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-machine-'));
  try {
    const served = await serveMachine(description, { socketDir, profile });
    const operations = new Operations(new VfioUserBackend(served, profile));
    return new OpenMachine(operations, async () => {
      await served.stop();
      rmSync(socketDir, { recursive: true, force: true });
    });
  } catch (error) {
    rmSync(socketDir, { recursive: true, force: true });
    throw error;
  }
}

/** Connects to devices that a server already has on vfio-user sockets, under the caller's names. */
export function connectDevices(sockets: Readonly<Record<string, string>>): OpenMachine {
  const devices = Object.entries(sockets).map(([name, socket]) => ({ name, socket }));
  return new OpenMachine(new Operations(new VfioUserBackend({ devices })), nothing);
}

/**
 * Real devices on /dev/vfio, by their PCI addresses. They must be bound to vfio-pci; importers need the lab's module.
 */
export function openLinuxDevices(addresses: Readonly<Record<string, string>>): OpenMachine {
  return new OpenMachine(new Operations(new LinuxBackend(release(), new Map(Object.entries(addresses)))), nothing);
}
