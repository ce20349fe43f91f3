/** The parts of steps on I/O address spaces that all backends share. */
/** An IOMMU's translation of a run of addresses. */
export interface Translation {
  iova: number;
  sizeBytes: number;
  /** An address on the host's bus. */
  address: number;
}

/**
 * The result of `ioas-translations`: [IOVA, bytes, target] in order of IOVA, in runs as long as possible. The addresses
 * of BARs differ between machines, so `describe` names the owner of an address.
 */
export function translations(
  mappings: readonly Translation[],
  describe: (address: number) => string,
): [number, number, string][] {
  const runs: Translation[] = [];
  for (const mapping of [...mappings].sort((a, b) => a.iova - b.iova)) {
    const last = runs.at(-1);
    const continues =
      last !== undefined &&
      last.iova + last.sizeBytes === mapping.iova &&
      last.address + last.sizeBytes === mapping.address;
    if (continues) last.sizeBytes += mapping.sizeBytes;
    else runs.push({ ...mapping });
  }
  return runs.map(({ iova, sizeBytes, address }) => [iova, sizeBytes, describe(address)]);
}

/** The owner of an address in words; `device` is null for an address without an owner. */
export function describeBar(device: string | null, index: number, offset: number): string {
  const at = `0x${offset.toString(16)}`;
  return device === null ? `nothing at ${at}` : `${device} BAR ${index} + ${at}`;
}
