import { embed, rowOfPanels, uploadMatrix } from '@ensample/tensor';
import { compute, onEmulated, randomMatrix, readValues, scope, seeded, uploadBatch } from '@ensample/testing';
import { expect, test } from 'vitest';
import { inPanels } from '../src/kernels/panels.ts';

test('rows in panels lie by eights of columns, and can be taken out again', () => {
  const columns = 24;
  const rows = Uint16Array.from({ length: 32 * columns }, (_, i) => i);
  const odd = new Uint16Array(rows.length + 1); // where no word may begin
  odd.set(rows, 1);
  for (const data of [rows, odd.subarray(1)]) {
    const panels = new Uint16Array(inPanels(data, columns).buffer);
    // Panel 1, second eight of columns, third row.
    expect(panels.subarray(16 * columns + (16 + 2) * 8, 16 * columns + (16 + 3) * 8)).toEqual(
      rows.subarray(18 * columns + 8, 18 * columns + 16),
    );
    for (const row of [0, 7, 15, 16, 31]) {
      expect(rowOfPanels(panels, columns, row)).toEqual(rows.subarray(row * columns, (row + 1) * columns));
    }
  }
});

await onEmulated('matrix', (device) => {
  test('rows of panels are embedded, from one block and from several', async () => {
    const random = seeded(11);
    const [vocab, width] = [48, 72];
    const { host, values } = randomMatrix(random, 'f16', vocab, width);
    const tokens = [0, 15, 16, 47];
    const { own, destroy } = scope();
    const batch = own(
      uploadBatch(
        device(),
        tokens.map((token) => ({ token })),
      ),
    );
    for (const maxBlockBytes of [2 ** 20, 32 * width * 2]) {
      const weights = own(uploadMatrix(device(), host, maxBlockBytes));
      expect([weights.storage, weights.blocks.length]).toEqual(['panels', maxBlockBytes === 2 ** 20 ? 1 : 2]);
      const y = own(device().tensor('f32', [tokens.length, width]));
      await compute(device(), (pass) => embed(pass, { batch, weights, y }, { rows: tokens.length }));
      const expected = tokens.flatMap((token) => [...values.subarray(token * width, (token + 1) * width)]);
      expect(await readValues(device(), y)).toEqual(Float32Array.from(expected));
    }
    destroy();
  });

  test('a large matrix is brought into panels piece by piece', async () => {
    const columns = 2 ** 19; // a panel is 16 MiB
    const data = new Uint16Array(32 * columns);
    for (let i = 0; i < data.length; i += 997) data[i] = i % 65_521;
    const matrix = uploadMatrix(device(), { format: 'f16', rows: 32, columns, data });
    const panels = new Uint16Array((await device().read(matrix.blocks[0]!.words)).buffer);
    for (const row of [0, 15, 16, 31]) {
      const same = rowOfPanels(panels, columns, row).every((bits, i) => bits === data[row * columns + i]);
      expect(same).toBe(true);
    }
    matrix.destroy();
  });
});
