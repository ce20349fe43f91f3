/**
 * Pulls triggers and plays an importer, for the page of `barter serve --control`. Everything happens on the serving
 * thread, as tasks beside those of the clients and under the same locks.
 */
import { Errno } from '../../abi/errno.ts';
import { O_CLOEXEC, O_RDWR } from '../../abi/fcntl.ts';
import { PCI_CAP_ID_PM, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_PM_CTRL } from '../../abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../abi/vfio.ts';
import { DMA_BIDIRECTIONAL, type DmaBuf, type DmaBufAttachment } from '../../dma-buf/dma-buf.ts';
import { FdTable } from '../../dma-buf/file.ts';
import type { SgTable } from '../../dma-buf/scatterlist.ts';
import { hotResetScope } from '../../pci/reset.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { exportSlice } from '../../vfio/dmabuf-export.ts';
import { tokenToOpen } from '../../vfio/token.ts';
import type { ServedDevice, VfioUserServer } from '../server/server.ts';
import type { Client } from '../server/session-host.ts';
import type { ControlState } from './state.ts';

export type ControlCommand =
  | { readonly op: 'memory' | 'low-power'; readonly device: string; readonly on: boolean }
  | { readonly op: 'power'; readonly device: string; readonly state: 0 | 1 | 2 | 3 }
  | { readonly op: 'open' | 'close' | 'flr' | 'reset' | 'hot-reset'; readonly device: string }
  | {
      readonly op: 'export';
      readonly device: string;
      readonly region: number;
      readonly offset: number;
      readonly sizeBytes: number;
    }
  /** `device` imports; told to let go, it does so `holdMs` later. */
  | { readonly op: 'import'; readonly buffer: number; readonly device: string; readonly holdMs: number }
  | { readonly op: 'drop-import'; readonly importer: number }
  | { readonly op: 'close-buffer'; readonly buffer: number };

const MAX_BUFFERS = 64;
const MAX_IMPORTS = 64;

/** The page as the client of a device. */
class PageClient implements Client {
  readonly peerPid = process.pid;
  readonly isLeaving = false;
  readonly connectionNumber = 0;
}

interface Exported {
  readonly fd: number;
  readonly dmabuf: DmaBuf;
}

export class Control {
  private readonly server: VfioUserServer;
  private readonly client = new PageClient();
  private readonly files = new FdTable(MAX_BUFFERS);
  private readonly open = new Set<ServedDevice>();
  private readonly buffers = new Map<number, Exported>();
  private readonly imports = new Map<number, PageImport>();
  private nextImport = 1;

  constructor(server: VfioUserServer) {
    this.server = server;
  }

  get state(): ControlState {
    return {
      open: [...this.open].map(({ vdev }) => vdev.pdev.name),
      buffers: [...this.buffers.keys()],
      imports: [...this.imports].map(([id, { buffer, device, holdMs, isMapped }]) => {
        return { id, buffer, device, holdMs, isMapped };
      }),
    };
  }

  /** Throws Errno as the device does; ENOENT for an unknown name or id. */
  *run(command: ControlCommand): Task {
    if (command.op === 'import') return yield* this.import(command.buffer, command.device, command.holdMs);
    if (command.op === 'drop-import') return yield* this.dropImport(command.importer);
    if (command.op === 'close-buffer') return yield* this.closeBuffer(command.buffer);
    const served = this.find(command.device);
    if (command.op === 'close') return yield* this.close(served);
    if (served.owner === null) yield* this.claim(served);
    const { vdev } = served;
    if (command.op === 'memory') yield* setMemory(vdev, command.on);
    if (command.op === 'power') yield* setPower(vdev, command.state);
    if (command.op === 'flr') yield* vdev.functionLevelReset();
    if (command.op === 'reset') yield* vdev.reset();
    if (command.op === 'hot-reset') yield* this.hotReset(vdev);
    if (command.op === 'low-power') yield* lowPower(vdev, command.on);
    if (command.op === 'export') {
      yield* this.export(served, command.region, BigInt(command.offset), BigInt(command.sizeBytes));
    }
  }

  /** Gives everything back, because the server ends. */
  *end(): Task {
    for (const id of [...this.imports.keys()]) yield* this.dropImport(id);
    for (const id of [...this.buffers.keys()]) yield* this.closeBuffer(id);
    for (const served of [...this.open]) yield* this.close(served);
  }

  private find(name: string): ServedDevice {
    const served = this.server.devices.find(({ vdev }) => vdev.pdev.name === name);
    if (served === undefined) throw new Errno('ENOENT', `there is no device ${name}`);
    return served;
  }

  /** Opens a device that nobody has. Other clients find it busy until `close`. */
  private *claim(served: ServedDevice): Task {
    yield* served.claim(this.client);
    try {
      yield* served.vdev.open(tokenToOpen(served.vdev));
    } catch (error) {
      served.onEnd(this.client);
      throw error;
    }
    this.open.add(served);
    yield* setMemory(served.vdev, true);
  }

  private *close(served: ServedDevice): Task {
    if (!this.open.delete(served)) throw new Errno('ENODEV', `the page has not opened ${served.vdev.pdev.name}`);
    yield* served.vdev.close();
    served.onEnd(this.client);
  }

  /** EPERM where the reset would hit a device of somebody else's than this device's client. */
  private *hotReset(vdev: VfioPciCoreDevice): Task {
    const scope = hotResetScope(vdev.pdev);
    const owner = this.server.ownerOf(vdev);
    const other = this.server.devices.find((served) => {
      return scope.includes(served.vdev.pdev) && served.owner !== null && served.owner !== owner;
    });
    if (other !== undefined) {
      throw new Errno('EPERM', `the reset would hit ${other.vdev.pdev.name}, which belongs to another client`);
    }
    yield* vdev.hotReset([...new Set(scope.map(({ iommuGroup }) => iommuGroup))]);
  }

  private *export(served: ServedDevice, region: number, offset: bigint, length: bigint): Task {
    const { files } = this;
    const refuse = (): never => {
      throw new Errno('EINVAL', 'an export has no eventfds');
    };
    const caller = { files, eventSignal: refuse, eventSource: refuse };
    const flags = O_RDWR | O_CLOEXEC;
    const fd = yield* exportSlice(served.vdev, { regionIndex: region, offset, length }, flags, caller);
    const dmabuf = files.lookup(fd) as DmaBuf;
    const id = served.monitor?.buffers.buffers.get(dmabuf.priv as VfioPciDmaBuf)?.id;
    if (id !== undefined) this.buffers.set(id, { fd, dmabuf });
  }

  private *closeBuffer(id: number): Task {
    const exported = this.buffers.get(id);
    if (exported === undefined) throw new Errno('ENOENT', `the page has not exported buffer ${id}`);
    this.buffers.delete(id);
    yield* this.files.close(exported.fd);
  }

  private *import(buffer: number, device: string, holdMs: number): Task {
    const dmabuf = this.bufferOf(buffer);
    const importer = this.find(device);
    if (importer.owner !== null && importer.owner !== this.client) {
      throw new Errno('EBUSY', `${device} belongs to process ${importer.owner.peerPid}, which decides what it imports`);
    }
    if (this.imports.size >= MAX_IMPORTS) throw new Errno('ENOSPC', `the page has ${MAX_IMPORTS} imports`);
    const each = new PageImport(this.server, dmabuf, buffer, importer.vdev, holdMs);
    yield* each.start();
    this.imports.set(this.nextImport++, each);
  }

  private bufferOf(id: number): DmaBuf {
    for (const { monitor } of this.server.devices) {
      for (const watched of monitor?.buffers.buffers.values() ?? [])
        if (watched.id === id) return watched.buffer.dmabuf;
    }
    throw new Errno('ENOENT', `there is no buffer ${id}`);
  }

  private *dropImport(id: number): Task {
    const importer = this.imports.get(id);
    if (importer === undefined) throw new Errno('ENOENT', `the page has no import ${id}`);
    this.imports.delete(id);
    yield* importer.end();
  }
}

/** A device as an importer: maps the buffer, lets go when it is told to, and maps it again after a restore. */
class PageImport {
  readonly buffer: number;
  readonly device: string;
  readonly holdMs: number;
  private readonly server: VfioUserServer;
  private readonly dmabuf: DmaBuf;
  private readonly vdev: VfioPciCoreDevice;
  private attachment: DmaBufAttachment | null = null;
  /** Guarded by the reservation. */
  private table: SgTable | null = null;

  constructor(server: VfioUserServer, dmabuf: DmaBuf, buffer: number, vdev: VfioPciCoreDevice, holdMs: number) {
    this.server = server;
    this.dmabuf = dmabuf;
    this.buffer = buffer;
    this.vdev = vdev;
    this.device = vdev.pdev.name;
    this.holdMs = holdMs;
  }

  get isMapped(): boolean {
    return this.table !== null;
  }

  *start(): Task {
    if (!(yield* this.dmabuf.tryGet())) throw new Errno('ENOENT', `buffer ${this.buffer} is being released`);
    try {
      this.attachment = yield* this.dmabuf.attach(this.vdev.pdev, {
        allowPeer2Peer: true,
        invalidateMappings: () => this.invalidate(),
      });
      try {
        this.table = yield* this.dmabuf.mapUnlocked(this.attachment, DMA_BIDIRECTIONAL);
      } catch (error) {
        yield* this.dmabuf.detach(this.attachment);
        throw error;
      }
    } catch (error) {
      yield* this.dmabuf.put();
      throw error;
    }
  }

  *end(): Task {
    yield* this.letGo();
    if (this.attachment !== null) yield* this.dmabuf.detach(this.attachment);
    this.attachment = null;
    yield* this.dmabuf.put();
  }

  private *letGo(): Task {
    yield* this.dmabuf.resv.lock.lock();
    yield* this.unmap();
    yield* this.dmabuf.resv.lock.unlock();
  }

  private *unmap(): Task {
    const { table } = this;
    if (table === null || this.attachment === null) return;
    this.table = null;
    yield* this.dmabuf.unmap(this.attachment, table, DMA_BIDIRECTIONAL);
  }

  /** Called by the exporter with the reservation held, at a revoke and after a restore. */
  private *invalidate(): Task {
    const { priv } = this.dmabuf;
    if (this.attachment === null) return;
    if (!(priv instanceof VfioPciDmaBuf) || priv.revoked.value) {
      if (this.holdMs === 0) yield* this.unmap();
      else this.server.loop.after(this.holdMs, () => void runner.start('an importer lets go', this.letGo()));
    } else if (this.table === null) this.table = yield* this.dmabuf.map(this.attachment, DMA_BIDIRECTIONAL);
  }
}

function* setMemory(vdev: VfioPciCoreDevice, on: boolean): Task {
  const bytes = Buffer.alloc(2);
  yield* vdev.read(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, bytes);
  const command = bytes.readUInt16LE();
  bytes.writeUInt16LE(on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY);
  yield* vdev.write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, bytes);
}

/** EINVAL where the device has no power management. */
function* setPower(vdev: VfioPciCoreDevice, state: number): Task {
  const at = vdev.pdev.config.find(PCI_CAP_ID_PM);
  if (at === 0) throw new Errno('EINVAL', `${vdev.pdev.name} has no power management`);
  yield* vdev.write(VFIO_PCI_CONFIG_REGION_INDEX, at + PCI_PM_CTRL, Buffer.from([state, 0]));
}

function* lowPower(vdev: VfioPciCoreDevice, on: boolean): Task {
  if (on) yield* vdev.enterLowPower(null);
  else yield* vdev.exitLowPower();
}
