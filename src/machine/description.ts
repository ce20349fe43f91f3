/** The type of machine descriptions, generated from their schema (test/machine/schemas.test.ts). */

/** A machine: what its file says, with every default filled in. */
export interface MachineDescription {
  /** The machine's name, from which the folder of its sockets has its name. */
  machine: string;
  /** A sentence for readers. */
  description: string;
  /** The host bridge, the CPU and the IOMMU. */
  host: {
    /** Whose CPU; AMD from family 0x17 on routes between root ports. */
    cpu: 'amd' | 'intel' | 'other';
    /** The family of the CPU. */
    cpuFamily: number;
    /** The host bridge. Linux knows some that route between peers. */
    bridge: {
      /** Vendor id. */
      vendor: number;
      /** Device id. */
      device: number;
    };
    /** Bus addresses are host addresses plus this. */
    busOffset: number;
    /** What happens to the addresses that devices use. */
    iommu: 'translated' | 'passthrough' | 'none';
  };
  /** Root ports and switches, each after its parent. */
  ports: {
    /** Names the port in `parent` and in the `port` of devices. */
    name: string;
    /** A root port, or the upper port or a lower port of a switch. */
    kind: 'root' | 'upstream' | 'downstream';
    /** The port above, which comes before it. Root ports have none. */
    parent?: string | undefined;
    /** Access control services: which requests the port sends up to the root complex. */
    acs: {
      /** Requests between peers go up to the root complex. */
      requestRedirect: boolean;
      /** Completions between peers go up. */
      completionRedirect: boolean;
      /** The port decides which peers it lets through. */
      egressControl: boolean;
    };
  }[];
  /** The devices, a virtual function after its physical one. */
  devices: (
    | {
        /** Names the socket NAME.sock, and the device in scenarios. */
        name: string;
        /** The port that the device is plugged into. Devices of one port are functions of one card. */
        port: string;
        /** The kind of device. */
        model: 'memory';
        /** Vendor id. 0xffff is what an empty slot reads. */
        vendor: number;
        /** Device id. */
        device: number;
        /** Class, subclass and programming interface. */
        class: number;
        /** Revision id. */
        revision: number;
        /** Subsystem vendor id. */
        subsystemVendor: number;
        /** Subsystem id. */
        subsystem: number;
        /** What the device answers for. */
        bars: {
          /** Which base address register, 0 to 5. A mem64 BAR takes the next one too. */
          index: number;
          /** Memory with a 32-bit or 64-bit address, or I/O ports. */
          kind: 'mem32' | 'mem64' | 'io';
          /** Reads have no side effects. Memory BARs only. */
          prefetchable: boolean;
          /** Bytes, a power of two. Memory: 16 to 64T, to 2G with mem32. I/O: 1 to 32K. */
          size: number;
        }[];
        /** The capabilities in config space. */
        capabilities: {
          /** A level interrupt at INTA#. */
          intx?: boolean | undefined;
          /** Power management. */
          pm?:
            | {
                /** Registers survive D3hot. */
                noSoftReset?: boolean | undefined;
                /** The device has the power state D1. */
                d1?: boolean | undefined;
                /** The device has the power state D2. */
                d2?: boolean | undefined;
              }
            | undefined;
          /** Vital product data. */
          vpd?:
            | {
                /** The name that the product has. */
                name: string;
                /** Bytes that the system may write. */
                writableBytes?: number | undefined;
              }
            | undefined;
          /** A PCI Express endpoint. */
          express?:
            | {
                /** The device has a function level reset. */
                flr?: boolean | undefined;
                /** It takes requests with TLP processing hints, also those with extended steering tags. */
                tphCompleter?: 'tph' | 'extended' | undefined;
              }
            | undefined;
          /** Advanced Features of conventional PCI, with FLR and the bit for pending transactions. */
          af?: boolean | undefined;
          /** Message signalled interrupts. */
          msi?:
            | {
                /** A power of two up to 32. */
                vectors: 1 | 2 | 4 | 8 | 16 | 32;
              }
            | undefined;
          /** MSI-X. */
          msix?:
            | {
                /** Entries of the table, 16 bytes each. */
                vectors: number;
                /** The memory BAR that holds the table and the pending bits. */
                bar: number;
                /** Where the table starts in the BAR, in bytes; a multiple of 8. */
                tableOffset: number;
                /** Where the pending bits start, in bytes; a multiple of 8. 8 bytes for each 64 vectors. */
                pbaOffset: number;
              }
            | undefined;
          /** The device is a physical function. Devices that name it as `physfn` are its virtual functions. */
          sriov?:
            | {
                /** The device id of its virtual functions. */
                vfDevice: number;
              }
            | undefined;
        };
        /** Makes the device a virtual function of that device, which comes before it and shares its port. */
        physfn?: string | undefined;
      }
    | {
        /** Names the socket NAME.sock, and the device in scenarios. */
        name: string;
        /** The port that the device is plugged into. Devices of one port are functions of one card. */
        port: string;
        /** The kind of device. */
        model: 'ioat';
        /** Vendor id. */
        vendor: number;
        /** Device id. */
        device: number;
        /** Class, subclass and programming interface. */
        class: number;
        /** Revision id. */
        revision: number;
        /** Subsystem vendor id. */
        subsystemVendor: number;
        /** Subsystem id. */
        subsystem: number;
        /** DMA channels, with an MSI-X vector each. */
        channels: number;
        /** The capabilities in config space, beside MSI-X. */
        capabilities: {
          /** A level interrupt at INTA#. */
          intx?: boolean | undefined;
          /** Power management. */
          pm?:
            | {
                /** Registers survive D3hot. */
                noSoftReset?: boolean | undefined;
                /** The device has the power state D1. */
                d1?: boolean | undefined;
                /** The device has the power state D2. */
                d2?: boolean | undefined;
              }
            | undefined;
          /** Vital product data. */
          vpd?:
            | {
                /** The name that the product has. */
                name: string;
                /** Bytes that the system may write. */
                writableBytes?: number | undefined;
              }
            | undefined;
          /** A PCI Express endpoint. */
          express?:
            | {
                /** The device has a function level reset. */
                flr?: boolean | undefined;
                /** It takes requests with TLP processing hints, also those with extended steering tags. */
                tphCompleter?: 'tph' | 'extended' | undefined;
              }
            | undefined;
          /** Advanced Features of conventional PCI, with FLR and the bit for pending transactions. */
          af?: boolean | undefined;
        };
      }
    | {
        /** Names the socket NAME.sock, and the device in scenarios. */
        name: string;
        /** The port that the device is plugged into. Devices of one port are functions of one card. */
        port: string;
        /** The kind of device. */
        model: 'virtio-gpu';
        /** Screens. */
        scanouts: number;
        /** Pixels of each screen from left to right. */
        width: number;
        /** Pixels of each screen from top to bottom. */
        height: number;
        /** The capabilities in config space, beside MSI-X and virtio's own. */
        capabilities: {
          /** A level interrupt at INTA#. */
          intx?: boolean | undefined;
          /** Power management. */
          pm?:
            | {
                /** Registers survive D3hot. */
                noSoftReset?: boolean | undefined;
                /** The device has the power state D1. */
                d1?: boolean | undefined;
                /** The device has the power state D2. */
                d2?: boolean | undefined;
              }
            | undefined;
          /** A PCI Express endpoint. */
          express?:
            | {
                /** The device has a function level reset. */
                flr?: boolean | undefined;
                /** It takes requests with TLP processing hints, also those with extended steering tags. */
                tphCompleter?: 'tph' | 'extended' | undefined;
              }
            | undefined;
          /** Advanced Features of conventional PCI, with FLR and the bit for pending transactions. */
          af?: boolean | undefined;
        };
      }
    | {
        /** Names the socket NAME.sock, and the device in scenarios. */
        name: string;
        /** The port that the device is plugged into. Devices of one port are functions of one card. */
        port: string;
        /** The kind of device. */
        model: 'captured';
        /** Config space in hexadecimal, or as `lspci -xxx` and `-xxxx` print it. What is left out is 0. */
        config: string;
        /** Vendor id, where config space does not tell: a virtual function reads ffff. */
        vendor?: number | undefined;
        /** Device id, where config space does not tell. */
        device?: number | undefined;
        /** The BARs, whose sizes config space does not tell. */
        bars: {
          /** Which base address register, 0 to 5. A mem64 BAR takes the next one too. */
          index: number;
          /** Memory with a 32-bit or 64-bit address, or I/O ports. */
          kind: 'mem32' | 'mem64' | 'io';
          /** Reads have no side effects. Memory BARs only. */
          prefetchable: boolean;
          /** Bytes, a power of two. Memory: 16 to 64T, to 2G with mem32. I/O: 1 to 32K. */
          size: number;
        }[];
        /** Vital product data in hexadecimal. Without them the capability in config space does not answer. */
        vpd?: string | undefined;
        /** Bytes of the expansion ROM, from 2K to 16M. It reads as ones. */
        romSize?: number | undefined;
        /** Makes the device a virtual function of that device, which comes before it and shares its port. */
        physfn?: string | undefined;
      }
  )[];
}
