/** The limits on what one importer makes the exporter hold. docs/limits.md has the table. */
export const IMPORTER_LIMITS = {
  /** Sessions of one buffer, and of all buffers of the process. */
  maxSessions: 64,
  maxSessionsOfAll: 512,
  maxAttachments: 64,
  /** Attachments of all sessions of a buffer. A revoke tells each of them. */
  maxAttachmentsOfBuffer: 256,
  maxMappings: 256,
  /** Ranges of all mappings of a session, and of all sessions of the process. */
  maxMappedRanges: 32_768,
  maxMappedRangesOfAll: 524_288,
  maxFences: 256,
  /** Pending fences of all sessions of a buffer. A revoke, and each new fence, looks at all of them. */
  maxFencesOfBuffer: 1024,
  /** Bytes of a request with its header. */
  maxRequestBytes: 128,
  /** Requests that are not answered yet. */
  maxRequests: 64,
  /** INVALIDATEs that are not answered yet. */
  maxInvalidates: 64,
  /** Ranges of a buffer that can be mapped through a socket: they must fit into one packet. */
  maxRanges: 2048,
} as const;

/**
 * How long an importer may keep mappings and fences after an INVALIDATE. A guest that switches its memory off waits for
 * the importers. QEMU gives a device five seconds for an answer, so this must be less.
 */
export const IMPORTER_TIMEOUT_MS = 3000;
