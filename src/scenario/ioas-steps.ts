/** What the steps on I/O address spaces have in common on every backend. */
/** What an IOMMU does with a run of addresses. */
export interface Translation {
  iova: number;
  sizeBytes: number;
  /** On the host's bus. */
  address: number;
}

/**
 * The result of `ioas-translations`: [IOVA, bytes, what is there] in order of IOVA, runs as long as they can be. Where
 * a BAR lies is each machine's own: `describe` says whose byte an address is.
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

/** Whose byte an address is; `device` is null for nobody's. */
export function describeBar(device: string | null, index: number, offset: number): string {
  const at = `0x${offset.toString(16)}`;
  return device === null ? `nothing at ${at}` : `${device} BAR ${index} + ${at}`;
}
