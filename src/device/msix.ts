/** MSI-X table and pending bits in a BAR (PCI 3.0, 6.8.2), to the extent that a device acts on them. */
import type { Memory } from '../pci/memory.ts';

const MSIX_ENTRY_BYTES = 16;

/** BAR memory with the table and the pending bits in it. All vectors start masked, as after reset. */
export function msixMemory(memory: Memory, vectors: number, tableOffset: number): Memory {
  for (let i = 0; i < vectors; i++) memory.write(tableOffset + i * MSIX_ENTRY_BYTES + 12, Uint8Array.of(1));
  return memory;
}
