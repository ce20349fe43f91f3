/** Finds the kernel that --kernel names. */
import { existsSync } from 'node:fs';
import { WrongUse } from '../host/command.ts';
import type { LabKernel } from './kernel.ts';
import { KERNELS } from './named.ts';
import { openOutsideKernel } from './outside.ts';
import { findPatchedKernel } from './patched.ts';

/**
 * Finds the kernel that --kernel names: one of KERNELS, a patched one, or the path of a build tree or an image.
 * `modules` is the folder of an image's modules. Throws WrongUse if there is none, or if it lacks something that the
 * lab needs.
 */
export function findKernel(text: string, modules: string | null = null): LabKernel {
  const named = KERNELS.find(({ name }) => name === text) ?? findPatchedKernel(text);
  if (named !== null && named !== undefined) {
    if (modules !== null) throw new WrongUse(`--modules ${modules} is for an image; the kernel ${text} has its own`);
    return named;
  }
  if (existsSync(text)) return openOutsideKernel(text, modules);
  const names = KERNELS.map(({ name }) => name).join(', ');
  throw new WrongUse(`there is no kernel ${text}; there are: ${names}, and paths of build trees and images`);
}
