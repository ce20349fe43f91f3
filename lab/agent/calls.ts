/** The calls from the host to the agent in the guest, one JSON line each. */
import type { LabCopy } from '../../src/linux/lab-importer.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Scenario } from '../../src/scenario/step.ts';
import type { ConfigAccesses, ConfigAnswers } from './config-accesses.ts';
import type { OwnDeviceAnswer } from './own-device.ts';

export interface AgentCalls {
  /** uname -r, and the devices on the bus. */
  hello: { parameters: Record<string, never>; result: { release: string; devices: string[] } };
  /** Binds devices to vfio-pci by their addresses. */
  bind: { parameters: { addresses: string[] }; result: null };
  /**
   * Runs a scenario on the guest's kernel. `addresses` gives the devices that it names; `ms` has an entry for each
   * step.
   */
  scenario: {
    parameters: { scenario: Scenario; addresses: Record<string, string> };
    result: RunResult & { ms: number[] };
  };
  /**
   * The machine files of devices as `barter capture` writes them; null for a device that it refuses, such as a bridge.
   */
  capture: { parameters: { addresses: string[] }; result: Record<string, string | null> };
  /** Copies by a device's DMA engine within its driver's memory; returns how many bytes were wrong after each copy. */
  memcpy: { parameters: { address: string; copies: MemoryCopy[] }; result: number[] };
  /** Runs a trial between a lender and a borrower (lab/agent/peer/trial.ts). */
  peer: { parameters: PeerRequest; result: PeerAnswer };
  /** Runs a trial between a lender and a virtio GPU (lab/agent/screen/trial.ts). */
  screen: { parameters: ScreenTrialRequest; result: ScreenTrialAnswer };
  /** Drives the device of docs/writing-a-device.md. */
  ownDevice: { parameters: { address: string }; result: OwnDeviceAnswer };
  /** The results of accesses to a device's config space through vfio-pci, and which of its bits can be written. */
  configAccesses: { parameters: ConfigAccesses; result: ConfigAnswers };
  /** Runs a command in the guest's shell; returns its status and output. */
  shell: { parameters: { command: string }; result: { status: number | null; stdout: string; stderr: string } };
}

/** The trigger that makes the lender take its memory back. */
export type PeerTrigger = 'memory bit' | 'D3hot' | 'FLR' | 'DEVICE_RESET' | 'hot reset' | 'low power' | 'close';

export type PeerRequest =
  /** Opens the lender, and lends `ranges` as dma-bufs of one range each. */
  | { do: 'lend'; addresses: { lender: string; borrower: string }; ranges: [number, number][] }
  /** Exports all ranges as one dma-buf; gives the errno of mapping it, or 'mapped'. */
  | { do: 'map-together'; ranges: [number, number][] }
  /** Fills each lent range by DMA, and reads it back by DMA. */
  | { do: 'copy'; seed: number }
  /** Starts copies, pulls the trigger while they run, and tries operations that must fail from then on. */
  | { do: 'revoke'; trigger: PeerTrigger; seed: number }
  /** Undoes the trigger and maps anew. After a close it opens and lends anew. */
  | { do: 'restore'; trigger: PeerTrigger }
  /** Copies at random and revokes at random moments for `seconds`. */
  | { do: 'load'; seed: number; seconds: number }
  | { do: 'end' };

export interface PeerAnswer {
  /** For each range: the address at which the borrower has it. */
  addresses?: number[];
  /** For each range: the CRC-32 of the bytes read back. */
  crc32?: number[];
  /** For each range: how the copy that was running ended. */
  copies?: LabCopy[];
  /** For each range: the errno of a copy to its old address and of a new mapping; 'ok' for a success. */
  tried?: { copy: string; map: string }[];
  /** The errno of mapping all ranges as one dma-buf. */
  together?: string;
  /** Milliseconds that the trigger took by the guest's clock. */
  triggerMs?: number;
  /** The totals of `load`. */
  load?: { copies: number; bytes: number; failed: number; revokes: number; inFlight: number; wrong: string[] };
}

export type ScreenTrialRequest =
  /** Opens the lender and the GPU's card. */
  | { do: 'begin'; addresses: { lender: string; gpu: string } }
  /** Shows a picture of the guest's own memory: the pattern of `seed`. */
  | { do: 'draw'; seed: number }
  /** Lends a screen's bytes of the BAR, from `offset` on, imports them into the card, and shows them. */
  | { do: 'lend'; offset: number }
  /** Shows the imported buffer anew. */
  | { do: 'show' }
  /** Pulls the trigger. */
  | { do: 'revoke'; trigger: PeerTrigger }
  /** Undoes the trigger, and shows the buffer. After a close it opens, lends, imports and shows anew. */
  | { do: 'restore'; trigger: PeerTrigger }
  /** Takes the imported buffer off the screen, and closes its handle and descriptor. */
  | { do: 'drop' }
  /** Clears the memory bit in a thread of its own. */
  | { do: 'start-revoke' }
  /** Says whether that thread is done, and sets the memory bit again if it is. */
  | { do: 'join-revoke' }
  | { do: 'end' };

export interface ScreenTrialAnswer {
  /** Of the screen. */
  width?: number;
  height?: number;
  /** Milliseconds that the trigger took by the guest's clock. */
  triggerMs?: number;
  /** 'ok', or the errno of showing the buffer. */
  shown?: string;
  /** 'blocked', or 'ended'. */
  revoke?: string;
}

/** Offsets in memory that holds a pattern. */
export interface MemoryCopy {
  from: number;
  to: number;
  length: number;
  seed: number;
}

export interface AgentReply {
  id: number;
  result?: unknown;
  error?: string;
}
