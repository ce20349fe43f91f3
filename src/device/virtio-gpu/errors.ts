/** Errors that a virtio GPU answers with. */
import { VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER } from '../../abi/virtio_gpu.ts';

/** The command fails, and its response has this type: VIRTIO_GPU_RESP_ERR_*. */
export class GpuError extends Error {
  readonly response: number;

  constructor(response: number, message: string) {
    super(message);
    this.name = 'GpuError';
    this.response = response;
  }
}

/** The error of a command whose fields make no sense. */
export function invalid(message: string): GpuError {
  return new GpuError(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, message);
}
