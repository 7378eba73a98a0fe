import { createBatch, Recorder, type Batch, type Device, type Pass } from '@ensample/tensor';

/** A row of a step, as batches hold it. Default 0 each. */
export interface TestRow {
  readonly token?: number;
  readonly position?: number;
  readonly leaf?: number;
  readonly sequence?: number;
}

/** A batch with these rows, and room for `capacity`. */
export function uploadBatch(device: Device, rows: readonly TestRow[], capacity: number = rows.length): Batch {
  const batch = createBatch(device, capacity);
  const words = rows.flatMap(({ token = 0, position = 0, leaf = 0, sequence = 0 }) => [
    token,
    position,
    leaf,
    sequence,
  ]);
  device.write(batch, Uint32Array.from([rows.length, 0, 0, 0, ...words]));
  return batch;
}

/** Records, compiles and submits once. */
export async function compute(device: Device, record: (pass: Pass) => void): Promise<void> {
  const recorder = new Recorder(device);
  record(recorder);
  (await recorder.finish()).submit();
}

/** Something that is freed by hand. */
interface Owned {
  destroy(): void;
}

/** Keeps what a test makes, to free it at the end. */
export interface Scope {
  readonly own: <T extends Owned>(thing: T) => T;
  readonly destroy: () => void;
}

/** An empty scope. */
export function scope(): Scope {
  const things: Owned[] = [];
  return {
    own: (thing) => {
      things.push(thing);
      return thing;
    },
    destroy: () => things.splice(0).forEach((thing) => thing.destroy()),
  };
}
