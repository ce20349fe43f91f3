/** An NVMe controller: its first command, Identify, brings a page. */
import { VFIO_PCI_MSIX_IRQ_INDEX } from '../../abi/vfio.ts';
import { pause } from '../../linux/pause.ts';
import { enable, readRegister, writeRegister } from '../registers.ts';
import { broken } from '../verdict.ts';
import type { DeviceDriver } from './driver.ts';

/** NVM Express Base Specification, 3.1: controller properties. */
const CC = 0x14;
const CSTS = 0x1c;
const AQA = 0x24;
const ASQ = 0x28;
const ACQ = 0x30;
const SQ0TDBL = 0x1000;
/** Enabled, entries of 64 and 16 bytes. */
const CC_EN = 0x0046_0001;
const IDENTIFY = 0x06;
const CNS_CONTROLLER = 1;
const CLASS_NVME = 0x010802;
const COMPLETIONS = 0x1000;
const READY_READS = 1000;

export const nvmeDriver: DeviceDriver = {
  name: 'nvme',
  irqIndex: VFIO_PCI_MSIX_IRQ_INDEX,
  sizeBytes: 4096,
  settleMs: 100,

  matches: ({ config }) => config.length >= 12 && config.readUInt32LE(8) >>> 8 === CLASS_NVME,

  start(peer, memory, { target, scratch, isMaster }) {
    enable(peer, isMaster);
    writeRegister(peer, CC, 0, 4);
    writeRegister(peer, AQA, 0x0001_0001, 4);
    writeRegister(peer, ASQ, scratch, 8);
    writeRegister(peer, ACQ, scratch + COMPLETIONS, 8);
    writeRegister(peer, CC, CC_EN, 4);
    for (let i = 0; (readRegister(peer, CSTS, 4) & 1n) === 0n; i++) {
      if (i === READY_READS) broken('the controller does not become ready');
      pause(1);
    }
    const command = memory.at(scratch, 64).fill(0);
    command.writeUInt32LE(IDENTIFY | (1 << 16), 0);
    command.writeBigUint64LE(BigInt(target), 24);
    command.writeUInt32LE(CNS_CONTROLLER, 40);
    writeRegister(peer, SQ0TDBL, 1, 4);
  },
};
