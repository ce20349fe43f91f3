/** In the guest: a DRM card of the kernel's virtio_gpu, and the buffers that it shows. */
import { closeSync, openSync, readdirSync } from 'node:fs';
import * as drm from '../../../src/abi/drm.ts';
import { type Fields, type SettableOf, type Struct, viewOf } from '../../../src/abi/layout.ts';
import { Pinned } from '../../../src/linux/ffi.ts';
import { ioctl, kernelIoctl } from '../../../src/linux/ioctl.ts';
import { Mapping } from '../../../src/linux/mapping.ts';

const PIXEL_BYTES = 4;
const U32_BYTES = 4;

/** A buffer of the card, and the framebuffer that is made of it. */
export interface Framebuffer {
  readonly handle: number;
  readonly id: number;
}

/** One screen. The methods throw the kernel's errno. */
export class Card {
  readonly width: number;
  readonly height: number;
  readonly path: string;
  private readonly fd: number;
  private readonly crtc: number;
  private readonly connector = new Pinned(U32_BYTES);
  private readonly mode: Uint8Array;

  /** `address` is the PCI address of the card's device. Becomes the master of the card: the console leaves it. */
  constructor(address: string) {
    this.path = `/dev/dri/${cardOf(address)}`;
    this.fd = openSync(this.path, 'r+');
    const { crtc, connector } = this.firstIds();
    this.crtc = crtc;
    this.connector.view.setUint32(0, connector, true);
    this.mode = this.preferredMode(connector);
    const { hdisplay, vdisplay } = drm.drm_mode_modeinfo.read(viewOf(this.mode));
    this.width = hdisplay;
    this.height = vdisplay;
  }

  get sizeBytes(): number {
    return this.width * this.height * PIXEL_BYTES;
  }

  /** Imports a dma-buf, and makes a framebuffer of its first bytes. */
  import(fd: number): Framebuffer {
    const fields = { fd, flags: drm.DRM_CLOEXEC | drm.DRM_RDWR };
    const argument = this.call(drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, drm.drm_prime_handle, fields, 'PRIME_FD_TO_HANDLE');
    return this.framebuffer(drm.drm_prime_handle.fields.handle.get(argument.view), this.width * PIXEL_BYTES);
  }

  /** Makes a buffer in the guest's memory with these pixels. */
  draw(pixels: Uint8Array): Framebuffer {
    const { width, height } = this;
    const made = this.call(
      drm.DRM_IOCTL_MODE_CREATE_DUMB,
      drm.drm_mode_create_dumb,
      { width, height, bpp: 8 * PIXEL_BYTES },
      'MODE_CREATE_DUMB',
    );
    const { handle, pitch, size } = drm.drm_mode_create_dumb.read(made.view);
    const place = this.call(drm.DRM_IOCTL_MODE_MAP_DUMB, drm.drm_mode_map_dumb, { handle }, 'MODE_MAP_DUMB');
    const { offset } = drm.drm_mode_map_dumb.read(place.view);
    const map = Mapping.map({ fd: this.fd, offset, sizeBytes: size, writable: true, what: this.path });
    map.bytes.set(pixels);
    map.unmap();
    return this.framebuffer(handle, pitch);
  }

  /** Puts a framebuffer on the screen. Shows it anew if it is there. */
  show({ id }: Framebuffer): void {
    const fields = {
      set_connectors_ptr: this.connector.address,
      count_connectors: 1,
      crtc_id: this.crtc,
      fb_id: id,
      mode_valid: 1,
      mode: this.mode,
    };
    this.call(drm.DRM_IOCTL_MODE_SETCRTC, drm.drm_mode_crtc, fields, 'MODE_SETCRTC');
  }

  /** Takes the framebuffer off the screen, and gives the buffer back. */
  free({ handle, id }: Framebuffer): void {
    const argument = new Pinned(U32_BYTES);
    argument.view.setUint32(0, id, true);
    this.ioctl(drm.DRM_IOCTL_MODE_RMFB, argument, 'MODE_RMFB');
    this.call(drm.DRM_IOCTL_GEM_CLOSE, drm.drm_gem_close, { handle }, 'GEM_CLOSE');
  }

  close(): void {
    closeSync(this.fd);
  }

  private framebuffer(handle: number, pitch: number): Framebuffer {
    const { width, height } = this;
    const first = (value: number) => new Uint8Array(new Uint32Array([value, 0, 0, 0]).buffer);
    const argument = this.call(
      drm.DRM_IOCTL_MODE_ADDFB2,
      drm.drm_mode_fb_cmd2,
      { width, height, pixel_format: drm.DRM_FORMAT_XRGB8888, handles: first(handle), pitches: first(pitch) },
      'MODE_ADDFB2',
    );
    return { handle, id: drm.drm_mode_fb_cmd2.fields.fb_id.get(argument.view) };
  }

  private firstIds(): { crtc: number; connector: number } {
    const crtc = new Pinned(U32_BYTES);
    const connector = new Pinned(U32_BYTES);
    const fields = {
      crtc_id_ptr: crtc.address,
      count_crtcs: 1,
      connector_id_ptr: connector.address,
      count_connectors: 1,
    };
    this.call(drm.DRM_IOCTL_MODE_GETRESOURCES, drm.drm_mode_card_res, fields, 'MODE_GETRESOURCES');
    return { crtc: crtc.view.getUint32(0, true), connector: connector.view.getUint32(0, true) };
  }

  /** The first mode of a connector is the one that its screen prefers. Asking without room makes the kernel probe. */
  private preferredMode(connector_id: number): Uint8Array {
    const ask = (fields: object) =>
      this.call(
        drm.DRM_IOCTL_MODE_GETCONNECTOR,
        drm.drm_mode_get_connector,
        { connector_id, ...fields },
        'MODE_GETCONNECTOR',
      );
    const { count_modes } = drm.drm_mode_get_connector.read(ask({}).view);
    const modes = new Pinned(count_modes * drm.drm_mode_modeinfo.sizeof);
    ask({ modes_ptr: modes.address, count_modes });
    return modes.bytes.slice(0, drm.drm_mode_modeinfo.sizeof);
  }

  private call<F extends Fields>(
    request: number,
    layout: Struct<F>,
    fields: Partial<{ [K in keyof F]: SettableOf<F[K]> }>,
    what: string,
  ): Pinned {
    const argument = new Pinned(layout.sizeof);
    layout.write(argument.view, 0, fields);
    this.ioctl(request, argument, what);
    return argument;
  }

  private ioctl(request: number, argument: Pinned, what: string): void {
    ioctl(kernelIoctl, this.fd, request, argument, () => `DRM_IOCTL_${what} on ${this.path}`);
  }
}

/** The name of the card of a PCI device. */
function cardOf(address: string): string {
  const card = readdirSync(`/sys/bus/pci/devices/${address}/drm`).find((name) => /^card\d+$/.test(name));
  if (card === undefined) throw new Error(`${address} has no DRM card`);
  return card;
}
