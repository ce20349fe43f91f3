/** Functions for the tests of pci/. */
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { addCapabilities, type CapabilitySpec } from '../../src/pci/capabilities.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { Fabric } from '../../src/pci/fabric.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { Port } from '../../src/pci/port.ts';
import { runner } from '../../src/task/runner.ts';
import { HOST } from '../vfio/rig.ts';

const PAGE = 4096;

export function functionOf(name: string, spec: CapabilitySpec, physfn: PciFunction | null = null): PciFunction {
  const config = new ConfigSpace();
  config.set(0, 4, physfn === null ? 0x0b011b36 : 0xffffffff);
  addCapabilities(config, spec);
  const bar = new Bar(0, 'mem64', false, PAGE, new MemoryTarget(new ArrayMemory(PAGE)));
  return new PciFunction({ name, config, bars: [bar, null, null, null, null, null], physfn });
}

/** Plugs each function in below one root port. */
export function plugged(...fns: PciFunction[]): PciFunction[] {
  const port = new Port('root', 'root', null);
  port.functions.push(...fns);
  new Fabric(HOST, [port]);
  return fns;
}

export const run = runner.run.bind(runner);
