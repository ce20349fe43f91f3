/** Errors that a virtio GPU answers with. */

/** The command fails, and its response has this type: VIRTIO_GPU_RESP_ERR_*. */
export class GpuError extends Error {
  readonly response: number;

  constructor(response: number, message: string) {
    super(message);
    this.name = 'GpuError';
    this.response = response;
  }
}
