/** QEMU's device for teaching (docs/specs/edu.rst): it copies its buffer into memory. */
import { enable, writeRegister } from '../registers.ts';
import { type DeviceDriver, deviceId } from './driver.ts';

const EDU = 0x11e8_1234;
const BUFFER = 0x40000;
const SOURCE = 0x80;
const DESTINATION = 0x88;
const COUNT = 0x90;
const COMMAND = 0x98;
/** Start, from the buffer to memory, and interrupt at the end. */
const RUN = 1 | 2 | 4;
const SIZE = 256;

export const eduDriver: DeviceDriver = {
  name: 'edu',
  irqIndex: 1,
  sizeBytes: SIZE,
  // Its timer starts the copy after 100 ms.
  settleMs: 250,

  matches: (facts) => deviceId(facts) === EDU,

  start(peer, _memory, { target, isMaster }) {
    enable(peer, isMaster);
    // A write of 32 bits sets all 64. QEMU's server refuses those of 64 bits.
    writeRegister(peer, SOURCE, BUFFER, 4);
    writeRegister(peer, DESTINATION, target, 4);
    writeRegister(peer, COUNT, SIZE, 4);
    writeRegister(peer, COMMAND, RUN, 4);
  },
};
