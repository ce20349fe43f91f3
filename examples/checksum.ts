/** A PCI device that reads guest memory and tells its CRC-32. docs/writing-a-device.md walks through it. */
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import * as barter from 'barter';

const ADDRESS = 0x00; // 64 bits
const LENGTH = 0x08; // 32 bits: a write starts the work
const STATUS = 0x0c; // 32 bits: 0 idle, 1 busy, 2 done, 3 failed
const RESULT = 0x10; // 32 bits
const CHUNK_BYTES = 65536;

export default class Checksum implements barter.DeviceModel {
  readonly identity = { vendorId: 0x1b36, deviceId: 0x0c5c, classCode: 0x120000, revision: 1 };
  readonly capabilities = { express: {}, msix: { vectors: 1, bar: 1, tableOffset: 0, pbaOffset: 0x800 } };
  private readonly bytes = new Uint8Array(4096);
  private readonly registers = new DataView(this.bytes.buffer);
  private fn!: barter.PciFunction;
  private life = 0;

  bars() {
    const read = (offset: number, into: Uint8Array) => into.set(this.bytes.subarray(offset, offset + into.length));
    const write = (offset: number, from: Uint8Array) => {
      this.bytes.set(from, offset);
      if (offset !== LENGTH) return;
      this.registers.setUint32(STATUS, 1, true); // Before the write ends: the next read must not see an idle device.
      barter.spawnBeside('checksum', this.work(this.life));
    };
    const registers = new barter.Bar(0, 'mem32', false, 4096, { memory: null, read, write });
    const table = new barter.MemoryTarget(barter.msixMemory(new barter.ArrayMemory(4096), 1, 0));
    return [registers, new barter.Bar(1, 'mem32', false, 4096, table), null, null, null, null];
  }

  bind(fn: barter.PciFunction) {
    this.fn = fn;
    fn.lifecycle.add({ onReset: () => this.reset() });
  }

  private reset() {
    this.life += 1;
    this.bytes.fill(0);
  }

  private *work(life: number): barter.Task {
    const start = Number(this.registers.getBigUint64(ADDRESS, true));
    const end = start + this.registers.getUint32(LENGTH, true);
    let sum = 0;
    let status = 'ok';
    for (let at = start; at < end && status === 'ok'; at += CHUNK_BYTES) {
      const part = new Uint8Array(Math.min(CHUNK_BYTES, end - at));
      status = yield* this.fn.dmaRead(at, part);
      sum = crc32(part, sum);
      if (life !== this.life) return; // A reset came: this work never was.
    }
    this.registers.setUint32(RESULT, sum, true);
    this.registers.setUint32(STATUS, status === 'ok' ? 2 : 3, true);
    this.fn.interrupts?.msi(0);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { devices, stop } = barter.serveDevices({ checksum: new Checksum() }, process.argv[2] ?? '/tmp/checksum');
  process.once('SIGINT', stop).once('SIGTERM', stop);
  console.log(`ready: ${devices[0].socket}`);
}
