/** MSI-X table and pending bits behind a BAR (PCI 3.0, 6.8.2), as far as a device has to act on them. */
import { ArrayMemory, type Memory } from '../pci/memory.ts';

export const MSIX_ENTRY_BYTES = 16;

/** Memory for the table and the pending bits; all vectors start masked, as after reset. */
export function msixMemory(sizeBytes: number, vectors: number, tableOffset: number): Memory {
  const memory = new ArrayMemory(sizeBytes);
  for (let i = 0; i < vectors; i++) memory.write(tableOffset + i * MSIX_ENTRY_BYTES + 12, Uint8Array.of(1));
  return memory;
}
