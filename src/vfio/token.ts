/** VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: the secret that a PF's user shares with the users of its VFs. */
import { Errno } from '../abi/errno.ts';
import { VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, VFIO_DEVICE_FEATURE_SET } from '../abi/vfio-feature.ts';
import type { PciFunction } from '../pci/function.ts';
import { type LockClass, Mutex } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import { checkFeature } from './check-feature.ts';
import type { UserMemory } from './user.ts';

const VF_TOKEN_BYTES = 16;
const VF_TOKEN_LOCK_CLASS: LockClass = { name: 'vfio_pci_vf_token.lock' };

/** The token of a PF. `users` counts the open VFs: the token cannot change while any VF is open. */
export class VfToken {
  readonly lock = new Mutex(VF_TOKEN_LOCK_CLASS);
  /** Random, and so unknown, until the user sets one. Only a PF loads the library: it takes 3 ms of a server's start. */
  uuid: Uint8Array = process.getBuiltinModule('node:crypto').randomBytes(VF_TOKEN_BYTES);
  users = 0;
}

/** A function that a token may guard. */
export interface TokenDevice {
  readonly pdev: PciFunction;
  /** A PF's token; null for all others. */
  readonly vfToken: VfToken | null;
}

/** SET, 16 bytes. ENOTTY where the device is not a PF with SR-IOV. */
export function* featureVfToken(vdev: TokenDevice, flags: number, payload: UserMemory, argsz: number): Task<number> {
  const token = vdev.vfToken;
  if (token === null) throw new Errno('ENOTTY', `${vdev.pdev.name} is not a physical function with SR-IOV`);
  const feature = VFIO_DEVICE_FEATURE_PCI_VF_TOKEN;
  if (!checkFeature(feature, flags, argsz, VFIO_DEVICE_FEATURE_SET, VF_TOKEN_BYTES)) return 0;
  const uuid = Uint8Array.from(payload.read(0, VF_TOKEN_BYTES));
  yield* token.lock.lock();
  token.uuid = uuid;
  yield* token.lock.unlock();
  return 0;
}

/**
 * vfio_pci_validate_vf_token: checks whether a user with the token `given` may open the device. EACCES where a VF's
 * token is missing or wrong; EINVAL for a token that the device does not need.
 */
export function validateVfToken(vdev: TokenDevice, pf: TokenDevice | null, given: Uint8Array | null): void {
  const token = pf?.vfToken ?? null;
  if (vdev.pdev.isVirtfn && token !== null) {
    if (given === null) throw new Errno('EACCES', `${vdev.pdev.name} is a VF: its PF's user shares a VF token`);
    if (!equal(given, token.uuid)) throw new Errno('EACCES', `the VF token for ${vdev.pdev.name} is wrong`);
    return;
  }
  if (vdev.vfToken !== null) {
    if (vdev.vfToken.users === 0) {
      // No open VF relies on the old token: the PF's user may set another at open.
      if (given !== null) vdev.vfToken.uuid = Uint8Array.from(given);
    } else if (given === null || !equal(given, vdev.vfToken.uuid)) {
      throw new Errno('EACCES', `${vdev.pdev.name} has VFs in use: opening it wants their VF token`);
    }
    return;
  }
  if (given !== null) {
    throw new Errno('EINVAL', `${vdev.pdev.name} needs no VF token, and one was given`);
  }
}

/**
 * The token that opens the device now; null if it takes none. A server uses it, since its protocol carries no tokens:
 * the mode of its sockets controls access to its devices.
 */
export function tokenToOpen(vdev: TokenDevice & { physfn: TokenDevice | null }): Uint8Array | null {
  const token = vdev.pdev.isVirtfn ? (vdev.physfn?.vfToken ?? null) : vdev.vfToken;
  return token === null || (!vdev.pdev.isVirtfn && token.users === 0) ? null : token.uuid;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
