/** Config space, and whether it agrees with what the other messages say of the device. */
import {
  PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAPABILITY_LIST,
  PCI_COMMAND,
  PCI_HEADER_TYPE,
  PCI_INTERRUPT_PIN,
  PCI_ROM_ADDRESS,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
} from '../../abi/pci_regs.ts';
import {
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_MMAP,
} from '../../abi/vfio.ts';
import { VFIO_USER_REGION_WRITE } from '../../abi/vfio-user.ts';
import { CONFIG } from '../facts.ts';
import { capabilityAt, capabilityList, extendedList } from '../pci-capabilities.ts';
import type { RawPeer } from '../peer.ts';
import { areasOf } from '../regions.ts';
import { readConfig } from '../registers.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs } from '../verdict.ts';

const rule = rulesOf('config', 'PCI Local Bus, 6.1');

function config(t: Trial): Buffer {
  needs(t.facts.config.length >= 256, 'config space cannot be read');
  return t.facts.config;
}

function dword(peer: RawPeer, offset: number): number {
  return readConfig(peer, offset, 4);
}

function writeDword(peer: RawPeer, offset: number, value: number): void {
  const data = Buffer.alloc(4);
  data.writeUInt32LE(value >>> 0);
  peer.call(VFIO_USER_REGION_WRITE, request.access(CONFIG, offset, 4, data));
}

/** A register that software cannot change. */
function readOnly(offset: number, mask: number) {
  return (t: Trial) => {
    config(t);
    demandReadOnly(t.ready(), offset, mask);
  };
}

function demandReadOnly(peer: RawPeer, offset: number, mask: number): void {
  const before = dword(peer, offset) & mask;
  writeDword(peer, offset, ~before);
  const after = dword(peer, offset) & mask;
  demand(before === after, `0x${(before >>> 0).toString(16)} becomes 0x${(after >>> 0).toString(16)}`);
}

interface ConfigBar {
  index: number;
  register: number;
  isIo: boolean;
  is64: boolean;
}

/** The BARs by their registers. The upper half of a 64-bit BAR is not one of its own. */
function bars(t: Trial): ConfigBar[] {
  const found: ConfigBar[] = [];
  for (let index = 0; index < 6; index++) {
    const register = config(t).readUInt32LE(PCI_BASE_ADDRESS_0 + 4 * index);
    const isIo = (register & 1) !== 0;
    const is64 = !isIo && (register & 6) === 4;
    found.push({ index, register, isIo, is64 });
    if (is64) index++;
  }
  return found;
}

function sizes(t: Trial, peer: RawPeer, bar: ConfigBar): { size: number; region: number } {
  const offset = PCI_BASE_ADDRESS_0 + 4 * bar.index;
  const before = dword(peer, offset);
  writeDword(peer, offset, 0xffff_ffff);
  const low = dword(peer, offset);
  writeDword(peer, offset, before);
  let mask = BigInt((low & (bar.isIo ? ~3 : ~15)) >>> 0);
  if (bar.is64) {
    const above = dword(peer, offset + 4);
    writeDword(peer, offset + 4, 0xffff_ffff);
    mask |= BigInt(dword(peer, offset + 4)) << 32n;
    writeDword(peer, offset + 4, above);
  } else if (mask !== 0n) mask |= 0xffff_ffffn << 32n;
  const size = mask === 0n ? 0 : Number((~mask & ((1n << 64n) - 1n)) + 1n);
  return { size, region: t.facts.regions[bar.index]?.size ?? 0 };
}

function capability(t: Trial, id: number): number {
  const at = capabilityAt(config(t), id);
  needs(at !== null, 'the device lacks the capability');
  return at;
}

export const CONFIG_RULES = [
  rule(
    'vendor',
    'A device that is there has a vendor ID other than 0xffff and 0.',
    (t) => {
      const vendor = config(t).readUInt16LE(0);
      demand(vendor !== 0xffff && vendor !== 0, `the vendor ID is 0x${vendor.toString(16)}`);
    },
    'PCI Local Bus, 6.2.1',
  ),
  rule('header-type', 'A device with nine regions has the header of an endpoint.', (t) => {
    const type = config(t)[PCI_HEADER_TYPE] & 0x7f;
    demand(type === 0, `the header has type ${type}`);
  }),
  rule(
    'class',
    'A device says what it is: its class code is not that of a device before the codes.',
    (t) => {
      demand(config(t).readUInt32LE(8) >>> 8 !== 0, 'the class code is 0');
    },
    'PCI Local Bus, 6.2.1',
  ),
  rule(
    'id-is-read-only',
    'Software cannot change vendor and device ID.',
    readOnly(0, 0xffff_ffff),
    'PCI Local Bus, 6.2.1',
  ),
  rule(
    'class-is-read-only',
    'Software cannot change revision and class code.',
    readOnly(8, 0xffff_ffff),
    'PCI Local Bus, 6.2.1',
  ),
  rule(
    'header-type-is-read-only',
    'Software cannot change the header type.',
    readOnly(0xc, 0x00ff_0000),
    'PCI Local Bus, 6.2.1',
  ),
  rule(
    'subsystem-is-read-only',
    'Software cannot change the subsystem IDs.',
    readOnly(0x2c, 0xffff_ffff),
    'PCI Local Bus, 6.2.4',
  ),
  rule(
    'capability-pointer-is-read-only',
    'Software cannot change the pointer to the capabilities.',
    readOnly(PCI_CAPABILITY_LIST, 0xff),
    'PCI Local Bus, 6.7',
  ),
  rule('pin-is-read-only', 'Software cannot change the interrupt pin.', readOnly(0x3c, 0xff00), 'PCI Local Bus, 6.2.4'),
  rule(
    'status-cap-list',
    'PCI_STATUS says whether there are capabilities.',
    (t) => {
      const has = (config(t).readUInt16LE(PCI_STATUS) & PCI_STATUS_CAP_LIST) !== 0;
      demand(has || config(t)[PCI_CAPABILITY_LIST] === 0, 'there are capabilities, and PCI_STATUS does not say so');
      demand(!has || config(t)[PCI_CAPABILITY_LIST] !== 0, 'PCI_STATUS says capabilities, and the pointer is 0');
    },
    'PCI Local Bus, 6.7',
  ),
  rule(
    'status-is-not-written',
    'PCI_STATUS keeps its read-only bits.',
    readOnly(PCI_COMMAND, 0x00ff_0000),
    'PCI Local Bus, 6.2.3',
  ),
  rule(
    'command-reserved',
    'The reserved bits of PCI_COMMAND read as 0.',
    (t) => {
      config(t);
      const peer = t.ready();
      writeDword(peer, PCI_COMMAND, 0xf800);
      const now = dword(peer, PCI_COMMAND) & 0xf800;
      demand(now === 0, `0x${now.toString(16)} is set`);
    },
    'PCI Local Bus, 6.2.2',
  ),
  rule(
    'command-memory',
    'PCI_COMMAND keeps the bit that lets memory answer.',
    (t) => {
      needs(
        bars(t).some(({ index, isIo }) => !isIo && (t.facts.regions[index]?.size ?? 0) > 0),
        'there is no memory BAR',
      );
      const peer = t.ready();
      writeDword(peer, PCI_COMMAND, 2);
      demand((dword(peer, PCI_COMMAND) & 2) !== 0, 'the bit reads as 0');
    },
    'PCI Local Bus, 6.2.2',
  ),
  rule(
    'capability-list',
    'The capabilities lie behind the header, and their list ends.',
    (t) => {
      const { fault } = capabilityList(config(t));
      demand(fault === null, fault ?? '');
    },
    'PCI Local Bus, 6.7',
  ),
  rule(
    'extended-list',
    'The extended capabilities lie in their part, and their list ends.',
    (t) => {
      needs(config(t).length === 4096, 'there is no extended config space');
      const { fault } = extendedList(config(t));
      demand(fault === null, fault ?? '');
    },
    'PCI Express, 7.9',
  ),
  rule(
    'bars-and-regions',
    'A BAR whose register has address bits is a region, and the other way round.',
    (t) => {
      const peer = t.ready();
      for (const bar of bars(t)) {
        const { size, region } = sizes(t, peer, bar);
        demand(size > 0 === region > 0, `BAR ${bar.index} has ${size} bytes, and region ${bar.index} ${region}`);
      }
    },
    'PCI Local Bus, 6.2.5.1',
  ),
  rule(
    'bar-sizes',
    'A BAR has the size of its region: what its register keeps of all ones says it.',
    (t) => {
      const peer = t.ready();
      for (const bar of bars(t)) {
        const { size, region } = sizes(t, peer, bar);
        demand(size === region, `BAR ${bar.index} has ${size} bytes, and region ${bar.index} ${region}`);
      }
    },
    'PCI Local Bus, 6.2.5.1',
  ),
  rule(
    'bar-type-is-read-only',
    'Software cannot change the type of a BAR.',
    (t) => {
      const peer = t.ready();
      for (const { index, register, isIo } of bars(t)) {
        demandReadOnly(peer, PCI_BASE_ADDRESS_0 + 4 * index, register === 0 ? 0 : isIo ? 3 : 15);
      }
    },
    'PCI Local Bus, 6.2.5.1',
  ),
  rule(
    'upper-half',
    'The upper half of a 64-bit BAR is not a region.',
    (t) => {
      const wide = bars(t).filter(({ is64 }) => is64);
      needs(wide.length > 0, 'there is no 64-bit BAR');
      for (const { index } of wide) {
        const size = t.facts.regions[index + 1]?.size ?? 0;
        demand(size === 0, `region ${index + 1} has ${size} bytes`);
      }
    },
    'PCI Local Bus, 6.2.5.1',
  ),
  rule(
    'rom',
    'A ROM in config space is region 6, and the other way round.',
    (t) => {
      config(t);
      const peer = t.ready();
      const before = dword(peer, PCI_ROM_ADDRESS);
      writeDword(peer, PCI_ROM_ADDRESS, 0xffff_fffe);
      const has = (dword(peer, PCI_ROM_ADDRESS) & ~0x7ff) !== 0;
      writeDword(peer, PCI_ROM_ADDRESS, before);
      const size = t.facts.regions[6]?.size ?? 0;
      demand(has === size > 0, `the register has ${has ? 'a' : 'no'} ROM, and region 6 ${size} bytes`);
    },
    'PCI Local Bus, 6.2.5.2',
  ),
  rule(
    'pin-and-intx',
    'A device with an interrupt pin has one INTx, and the other way round.',
    (t) => {
      const pin = config(t)[PCI_INTERRUPT_PIN];
      const count = t.facts.irqs[VFIO_PCI_INTX_IRQ_INDEX]?.count ?? 0;
      demand((pin !== 0) === count > 0, `the pin is ${pin}, and there are ${count} INTx`);
    },
    'PCI Local Bus, 6.2.4',
  ),
  rule(
    'pin',
    'An interrupt pin is one of four.',
    (t) => {
      demand(config(t)[PCI_INTERRUPT_PIN] <= 4, `the pin is ${config(t)[PCI_INTERRUPT_PIN]}`);
    },
    'PCI Local Bus, 6.2.4',
  ),
  rule(
    'msi-and-irqs',
    'The MSI capability has as many vectors as GET_IRQ_INFO says.',
    (t) => {
      const control = config(t).readUInt16LE(capability(t, PCI_CAP_ID_MSI) + 2);
      const vectors = 1 << ((control >> 1) & 7);
      const count = t.facts.irqs[VFIO_PCI_MSI_IRQ_INDEX]?.count ?? 0;
      demand(vectors === count, `${vectors} vectors, and count ${count}`);
    },
    'PCI Local Bus, 6.8.1.3',
  ),
  rule(
    'msix-and-irqs',
    'The MSI-X capability has as many vectors as GET_IRQ_INFO says.',
    (t) => {
      const vectors = (config(t).readUInt16LE(capability(t, PCI_CAP_ID_MSIX) + 2) & 0x7ff) + 1;
      const count = t.facts.irqs[VFIO_PCI_MSIX_IRQ_INDEX]?.count ?? 0;
      demand(vectors === count, `${vectors} vectors, and count ${count}`);
    },
    'PCI Local Bus, 6.8.2.3',
  ),
  rule(
    'no-msi-no-irqs',
    'Without MSI or MSI-X in config space there are no such interrupts.',
    (t) => {
      for (const [id, index, name] of [
        [PCI_CAP_ID_MSI, VFIO_PCI_MSI_IRQ_INDEX, 'MSI'],
        [PCI_CAP_ID_MSIX, VFIO_PCI_MSIX_IRQ_INDEX, 'MSI-X'],
      ] as const) {
        const count = t.facts.irqs[index]?.count ?? 0;
        demand(
          capabilityAt(config(t), id) !== null || count === 0,
          `${count} ${name} interrupts without the capability`,
        );
      }
    },
    'PCI Local Bus, 6.8',
  ),
  rule(
    'msix-table',
    'The MSI-X table lies in a region.',
    (t) => {
      const at = capability(t, PCI_CAP_ID_MSIX);
      const vectors = (config(t).readUInt16LE(at + 2) & 0x7ff) + 1;
      const table = config(t).readUInt32LE(at + 4);
      const size = t.facts.regions[table & 7]?.size ?? 0;
      const end = (table & ~7) + 16 * vectors;
      demand(
        end <= size,
        `the table ends at 0x${end.toString(16)} of region ${table & 7}, which has 0x${size.toString(16)}`,
      );
    },
    'PCI Local Bus, 6.8.2',
  ),
  rule(
    'msix-pba',
    'The pending bits of MSI-X lie in a region.',
    (t) => {
      const at = capability(t, PCI_CAP_ID_MSIX);
      const vectors = (config(t).readUInt16LE(at + 2) & 0x7ff) + 1;
      const pba = config(t).readUInt32LE(at + 8);
      const size = t.facts.regions[pba & 7]?.size ?? 0;
      const end = (pba & ~7) + 8 * Math.ceil(vectors / 64);
      demand(end <= size, `they end at 0x${end.toString(16)} of region ${pba & 7}, which has 0x${size.toString(16)}`);
    },
    'PCI Local Bus, 6.8.2',
  ),
  rule(
    'msix-table-is-not-mapped',
    'The page of the MSI-X table is not mapped without the capability MSIX_MAPPABLE.',
    (t) => {
      const table = config(t).readUInt32LE(capability(t, PCI_CAP_ID_MSIX) + 4);
      const region = t.facts.regions[table & 7];
      needs(region !== undefined && (region.flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0, 'its region cannot be mapped');
      // Without areas a client maps around the table by itself.
      const isSparse = region.capabilities.some(({ id }) => id === VFIO_REGION_INFO_CAP_SPARSE_MMAP);
      needs(
        isSparse && !region.capabilities.some(({ id }) => id === VFIO_REGION_INFO_CAP_MSIX_MAPPABLE),
        'the server says that the table may be mapped',
      );
      const page = table & ~7 & ~4095;
      const over = areasOf(region).find(({ offset, size }) => offset <= page && page < offset + size);
      demand(over === undefined, `the area at 0x${over?.offset.toString(16)} has it`);
    },
    'linux/vfio.h, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE',
  ),
];
