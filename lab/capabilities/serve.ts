/**
 * Serves one of the devices that have every capability, with config space as the hardware has it. The server hides no
 * capability from the guest, so the guest's own vfio-pci decides over all of them.
 *
 * node serve.js NAME SOCKET_DIR
 */
import { serveDevices } from '../../src/machine/serve-devices.ts';
import type { Task } from '../../src/task/op.ts';
import { VfioConfig } from '../../src/vfio/config.ts';
import { CAPABILITY_DEVICES, CapabilityDevice } from './devices.ts';

/**
 * The capability pointer and all dwords behind the header. The rest of the header stays vfio's: BARs, COMMAND,
 * interrupts.
 */
const isRaw = (dword: number): boolean => dword === 0x34 || dword >= 0x40;

const { read, write } = VfioConfig.prototype;

/** Calls `access` for each dword that overlaps the bytes. */
function* eachDword(offset: number, bytes: Uint8Array, access: (at: number, part: Uint8Array) => Task<unknown>): Task {
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done;
    const part = bytes.subarray(done, done + 4 - (at & 3));
    yield* access(at, part);
    done += part.length;
  }
}

VfioConfig.prototype.read = function* (this: VfioConfig, offset, into) {
  yield* eachDword(
    offset,
    into,
    function* (this: VfioConfig, at: number, part: Uint8Array): Task {
      if (!isRaw(at & ~3)) yield* read.call(this, at, part);
      else for (const i of part.keys()) part[i] = this.vdev.pdev.configRead(at + i, 1);
    }.bind(this),
  );
  return into.length;
};

VfioConfig.prototype.write = function* (this: VfioConfig, offset, from) {
  yield* eachDword(
    offset,
    from,
    function* (this: VfioConfig, at: number, part: Uint8Array): Task {
      if (!isRaw(at & ~3)) yield* write.call(this, at, part);
      else
        yield* this.vdev.pdev.configWrite(at, part.length as 1 | 2 | 4, Buffer.from(part).readUIntLE(0, part.length));
    }.bind(this),
  );
  return from.length;
};

const [name, folder] = process.argv.slice(2);
const spec = CAPABILITY_DEVICES.find((one) => one.name === name);
if (spec === undefined || folder === undefined) throw new Error(`serve.js NAME SOCKET_DIR; there is no device ${name}`);
const { devices, stop } = serveDevices({ [name]: new CapabilityDevice(spec) }, folder);
process.once('SIGINT', stop).once('SIGTERM', stop);
console.log(`ready: ${devices[0].socket}`);
