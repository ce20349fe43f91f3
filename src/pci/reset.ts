/** Resets of a function, alone or with all on its slot or bus, by the methods that Linux has (drivers/pci/pci.c). */
import { Errno } from '../abi/errno.ts';
import {
  PCI_AF_CAP,
  PCI_AF_CAP_FLR,
  PCI_AF_CAP_TP,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_PM,
  PCI_EXP_DEVCAP,
  PCI_EXP_DEVCAP_FLR,
  PCI_PM_CTRL,
  PCI_PM_CTRL_NO_SOFT_RESET,
} from '../abi/pci_regs.ts';
import type { Task } from '../task/op.ts';
import type { ConfigSpace } from './config-space.ts';
import type { PciFunction } from './function.ts';

/** In the order in which Linux tries them (reset_method in sysfs). */
export type ResetMethod = 'flr' | 'af_flr' | 'pm' | 'bus';

export function hasFlr(config: ConfigSpace): boolean {
  const express = config.find(PCI_CAP_ID_EXP);
  return express !== 0 && (config.read(express + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR) !== 0;
}

/** Both bits are needed: an FLR waits for pending transactions (pci_af_flr). */
export function hasAfFlr(config: ConfigSpace): boolean {
  const af = config.find(PCI_CAP_ID_AF);
  const needed = PCI_AF_CAP_FLR | PCI_AF_CAP_TP;
  return af !== 0 && (config.read(af + PCI_AF_CAP, 1) & needed) === needed;
}

/** Ways to reset this function alone, best first (pci_reset_fn_methods). */
export function resetMethods(fn: PciFunction): ResetMethod[] {
  const { config } = fn;
  const methods: ResetMethod[] = [];
  if (hasFlr(config)) methods.push('flr');
  if (hasAfFlr(config)) methods.push('af_flr');
  const pm = config.find(PCI_CAP_ID_PM);
  if (pm !== 0 && (config.read(pm + PCI_PM_CTRL, 2) & PCI_PM_CTRL_NO_SOFT_RESET) === 0) methods.push('pm');
  // A secondary bus reset hits no other function if this one is alone below its port.
  if (!fn.isVirtfn && fn.parent !== null && hotResetScope(fn).length === 1) methods.push('bus');
  return methods;
}

/**
 * pci_reset_function: resets by the best method and restores config space. ENOTTY without a method. The power state
 * must be D0.
 */
export function* resetFunction(fn: PciFunction): Task {
  if (resetMethods(fn).length === 0) throw new Errno('ENOTTY', `${fn.name} has no function-level reset`);
  yield* resetAndRestore(fn);
}

/** Every function, this one included, that a reset of the slot or bus hits. */
export function hotResetScope(fn: PciFunction): PciFunction[] {
  return fn.parent === null ? [fn] : fn.parent.functionsBelow();
}

/** pci_reset_bus: resets all functions in `hotResetScope`, and restores their registers. */
export function* resetBus(fn: PciFunction): Task {
  for (const member of hotResetScope(fn)) yield* resetAndRestore(member);
}

function* resetAndRestore(fn: PciFunction): Task {
  const saved = fn.config.save();
  yield* fn.hardwareReset();
  yield* fn.restoreState(saved);
}
