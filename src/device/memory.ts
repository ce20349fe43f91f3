/** A device of plain memory: it lends one BAR full of bytes. The lender of the examples. */
import { Bar, MemoryTarget } from '../pci/bar.ts';
import type { CapabilitySpec } from '../pci/capabilities.ts';
import type { MemoryProvider } from '../pci/memory.ts';
import type { DeviceIdentity, DeviceModel } from './model.ts';
import { msixMemory } from './msix.ts';

export interface MemoryBarSpec {
  index: number;
  kind: 'mem32' | 'mem64' | 'io';
  prefetchable: boolean;
  sizeBytes: number;
}

/** BARs of plain bytes, and a small BAR for the MSI-X table where `capabilities` asks for one. */
export class MemoryDevice implements DeviceModel {
  readonly identity: DeviceIdentity;
  readonly capabilities: CapabilitySpec;
  private readonly specs: readonly MemoryBarSpec[];
  private readonly name: string;

  constructor(name: string, identity: DeviceIdentity, capabilities: CapabilitySpec, bars: readonly MemoryBarSpec[]) {
    this.name = name;
    this.identity = identity;
    this.capabilities = capabilities;
    this.specs = bars;
  }

  bars(memory: MemoryProvider): (Bar | null)[] {
    const bars: (Bar | null)[] = [null, null, null, null, null, null];
    const msix = this.capabilities.msix;
    for (const spec of this.specs) {
      const bytes = memory(`${this.name}.bar${spec.index}`, spec.sizeBytes);
      if (msix?.bar === spec.index) msixMemory(bytes, msix.vectors, msix.tableOffset);
      bars[spec.index] = new Bar(spec.index, spec.kind, spec.prefetchable, spec.sizeBytes, new MemoryTarget(bytes));
    }
    return bars;
  }
}
