/** What the host asks the agent in the guest, line by line in JSON. */
import type { LabCopy } from '../../src/linux/lab-importer.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Scenario } from '../../src/scenario/step.ts';
import type { ConfigAccesses, ConfigAnswers } from './config-accesses.ts';
import type { OwnDeviceAnswer } from './own-device.ts';

export interface AgentCalls {
  /** uname -r, and what is on the bus. */
  hello: { parameters: Record<string, never>; result: { release: string; devices: string[] } };
  /** Binds devices to vfio-pci by their addresses. */
  bind: { parameters: { addresses: string[] }; result: null };
  /** Runs a scenario on the guest's kernel; `addresses` are the devices that it names. `ms` has an entry for each step. */
  scenario: {
    parameters: { scenario: Scenario; addresses: Record<string, string> };
    result: RunResult & { ms: number[] };
  };
  /** The machine files of devices as `barter capture` writes them; null for those that it refuses, as bridges. */
  capture: { parameters: { addresses: string[] }; result: Record<string, string | null> };
  /** Copies by a device's DMA engine, inside of its driver's memory; gives how many bytes were wrong after each. */
  memcpy: { parameters: { address: string; copies: MemoryCopy[] }; result: number[] };
  /** What lab/agent/peer.ts does with a lender and a borrower; its methods have the words. */
  peer: { parameters: PeerRequest; result: PeerAnswer };
  /** Drives the device of docs/writing-a-device.md. */
  ownDevice: { parameters: { address: string }; result: OwnDeviceAnswer };
  /** What vfio-pci answers to accesses of a device's config space, and which bits of it can be written at all. */
  configAccesses: { parameters: ConfigAccesses; result: ConfigAnswers };
  /** A command of the guest's shell: its status and output. */
  shell: { parameters: { command: string }; result: { status: number | null; stdout: string; stderr: string } };
}

/** What makes the lender take its memory back. */
export type PeerTrigger = 'memory bit' | 'D3hot' | 'FLR' | 'DEVICE_RESET' | 'hot reset' | 'low power' | 'close';

export type PeerRequest =
  /** Opens the lender, and lends `ranges` as dma-bufs of one range each. */
  | { do: 'lend'; addresses: { lender: string; borrower: string }; ranges: [number, number][] }
  /** One dma-buf of all the ranges: the errno of mapping it, or 'mapped'. */
  | { do: 'map-together'; ranges: [number, number][] }
  /** Fills each lent range by the engine, and reads it back by the engine. */
  | { do: 'copy'; seed: number }
  /** Starts copies, pulls the trigger while they are under way, and tries what must fail from then on. */
  | { do: 'revoke'; trigger: PeerTrigger; seed: number }
  /** Undoes the trigger and maps anew; after a close, opens and lends anew. */
  | { do: 'restore'; trigger: PeerTrigger }
  /** Copies at random, and revokes at random moments, for a while. */
  | { do: 'load'; seed: number; seconds: number }
  | { do: 'end' };

export interface PeerAnswer {
  /** For each range: where the borrower has it. */
  addresses?: number[];
  /** For each range: CRC-32 of what was read back. */
  crc32?: number[];
  /** How the copy that was under way ended, for each range. */
  copies?: LabCopy[];
  /** For each range: the errno of a copy to where it was, and of a new map; 'ok' where it was done. */
  tried?: { copy: string; map: string }[];
  /** The errno of mapping all ranges as one. */
  together?: string;
  /** Milliseconds that the trigger took, by the guest's clock. */
  triggerMs?: number;
  /** What `load` did. */
  load?: { copies: number; bytes: number; failed: number; revokes: number; inFlight: number; wrong: string[] };
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
