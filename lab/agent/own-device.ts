/** In the guest: the device of docs/writing-a-device.md, driven through vfio-pci. */
import { crc32 } from 'node:zlib';
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../../src/abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { bindToVfioPci, readPciDevice } from '../../src/linux/sysfs.ts';
import { openGroup } from '../../src/linux/vfio/container.ts';
import { VfioDevice } from '../../src/linux/vfio/device.ts';

const IOVA = 0x10_0000;
const MEMORY_BYTES = 1 << 20;
/** Registers of examples/checksum.ts. */
const ADDRESS = 0x00;
const LENGTH = 0x08;
const STATUS = 0x0c;
const BUSY = 1;
const MAX_READS = 10_000;

export interface OwnDeviceAnswer {
  ids: string;
  status: number;
  crc32: number;
  wanted: number;
}

export function useOwnDevice(address: string): OwnDeviceAnswer {
  bindToVfioPci(address);
  const { vendor, device: deviceId, iommuGroup } = readPciDevice(address);
  const { group, container, close } = openGroup(iommuGroup!);
  const memfd = createMemfd('own device', MEMORY_BYTES);
  const memory = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: MEMORY_BYTES, writable: true, what: 'memory' });
  try {
    for (let i = 0; i < MEMORY_BYTES; i++) memory.bytes[i] = (i * 13) ^ (i >> 7);
    container.map(IOVA, memory.address, MEMORY_BYTES);
    const device = new VfioDevice(group.getDevice(address), address);
    const command = Buffer.from([PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0]);
    device.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
    const request = Buffer.alloc(12);
    request.writeBigUInt64LE(BigInt(IOVA), ADDRESS);
    request.writeUInt32LE(MEMORY_BYTES, LENGTH);
    device.writeRegion(0, ADDRESS, request.subarray(0, 8));
    device.writeRegion(0, LENGTH, request.subarray(8));
    const answer = Buffer.alloc(8);
    for (let reads = 0; reads < MAX_READS; reads++) {
      device.readRegion(0, STATUS, answer);
      if (answer.readUInt32LE(0) !== BUSY) break;
    }
    device.close();
    const ids = [vendor, deviceId].map((id) => id.toString(16).padStart(4, '0')).join(':');
    return { ids, status: answer.readUInt32LE(0), crc32: answer.readUInt32LE(4), wanted: crc32(memory.bytes) };
  } finally {
    close();
    memory.close();
    memfd.close();
  }
}
