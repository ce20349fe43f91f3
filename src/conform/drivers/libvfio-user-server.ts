/** The sample `server` of libvfio-user: its alarm clock interrupts, writes a page and reads it back. */
import { writeRegister } from '../registers.ts';
import { type DeviceDriver, deviceId } from './driver.ts';

const SAMPLE = 0xbeef_dead;

export const libvfioUserServerDriver: DeviceDriver = {
  name: 'libvfio-user server',
  irqIndex: 0,
  sizeBytes: 4096,
  // The clock has whole seconds.
  settleMs: 2200,
  // It reads back what it wrote, and ends itself where that fails.
  lingerMs: 250,

  matches: (facts) => deviceId(facts) === SAMPLE,

  start(peer) {
    writeRegister(peer, 0, Math.floor(Date.now() / 1000) + 1, 8);
  },
};
