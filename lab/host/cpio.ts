/**
 * An archive that the kernel unpacks as its first file system, in cpio's newc format (early-userspace/buffer-format).
 */

const MODE_FOLDER = 0o040755;
const MODE_FILE = 0o100755;
const MODE_LINK = 0o120777;
const TRAILER = 'TRAILER!!!';

export class CpioArchive {
  private readonly parts: Buffer[] = [];
  private next = 1;

  folder(path: string): void {
    this.add(path, MODE_FOLDER, Buffer.alloc(0));
  }

  /** Adds a file. Every file is executable. */
  file(path: string, content: Buffer | string): void {
    this.add(path, MODE_FILE, Buffer.from(content));
  }

  /** `target` is relative to the link's folder. */
  link(path: string, target: string): void {
    this.add(path, MODE_LINK, Buffer.from(target));
  }

  /** Returns the whole archive. Nothing can be added afterwards. */
  end(): Buffer {
    this.add(TRAILER, 0, Buffer.alloc(0));
    return Buffer.concat(this.parts);
  }

  private add(path: string, mode: number, content: Buffer): void {
    const name = Buffer.from(`${path}\0`);
    const nlink = 1;
    const fields = [this.next++, mode, 0, 0, nlink, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
    this.parts.push(padded(Buffer.concat([Buffer.from(header), name])), padded(content));
  }
}

/** Pads a header with its name, or the content, to a multiple of 4 bytes. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
