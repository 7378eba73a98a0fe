import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** A line of points (x, y) with its name beside its end. Points without y are left out. */
export interface Line {
  readonly name: string;
  /** Whose it is decides the colour. */
  readonly colour: keyof typeof colours;
  /** As in SVG; solid without. */
  readonly dash?: string;
  readonly points: readonly (readonly [x: number, y: number | undefined])[];
}

/** Titles and axes of {@link drawing}. */
export interface DrawingOptions {
  readonly title: string;
  readonly subtitle: string;
  readonly x: Plot.ScaleOptions & { readonly label: string };
  /** Without a label: the title says what it is. */
  readonly y: Plot.ScaleOptions;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Colours on white and on a dark page. */
const colours = {
  ours: ['#0969da', '#58a6ff'],
  theirs: ['#bc4c00', '#f0883e'],
  third: ['#1a7f37', '#3fb950'],
  quiet: ['#59636e', '#9198a1'],
} as const;

const paper = ['#ffffff', '#0d1117'] as const;
const ink = ['#1f2328', '#f0f6fc'] as const;

const width = 760;
const height = 440;
const labelHeight = 15;
const margins = { marginTop: 70, marginRight: 190, marginBottom: 44, marginLeft: 48 };

type DrawnLine = Omit<Line, 'points'> & { readonly points: readonly Point[] };

/** Lines over two axes as an SVG file that follows the reader's light or dark setting; undefined where there is no point. */
export function drawing(lines: readonly Line[], options: DrawingOptions): string | undefined {
  const drawn = lines.flatMap((line): DrawnLine[] => {
    const points = line.points.flatMap(([x, y]) => (y === undefined ? [] : [{ x, y }]));
    return points.length > 0 ? [{ ...line, points }] : [];
  });
  if (drawn.length === 0) return undefined;
  const { document } = parseHTML('<html></html>');
  const frame: Plot.PlotOptions = {
    ...{ document, width, height, ...margins, style: { fontSize: '12px' } },
    x: { labelAnchor: 'center', labelArrow: 'none', ...options.x },
    y: { grid: true, label: null, ...options.y },
  };
  const marks = drawn.flatMap(lineMarks);
  const scale = Plot.plot({ ...frame, marks }).scale('y');
  if (!scale) throw new Error(`${options.title}: no scale`);
  const svg = Plot.plot({ ...frame, marks: [...marks, ...nameMarks(drawn, scale), ...heading(options)] });
  return file(svg as SVGSVGElement, options.title);
}

function lineMarks({ points, colour, dash }: DrawnLine): Plot.Markish[] {
  const place = { x: 'x', y: 'y' };
  const stroke = { stroke: `var(--${colour})`, strokeWidth: 2, ...(dash && { strokeDasharray: dash }) };
  return [
    Plot.line(points, { ...place, ...stroke }),
    Plot.dot(points, { ...place, fill: `var(--${colour})`, r: dash ? 2 : 3 }),
  ];
}

/** Names in a column to the right, each as near to its line's end as the others allow. */
function nameMarks(lines: readonly DrawnLine[], scale: Plot.Scale): Plot.Markish[] {
  const right = Math.max(...lines.flatMap(({ points }) => points.map(({ x }) => x)));
  const ends = spread(lines.map(({ points }) => Number(scale.apply(points.at(-1)?.y))));
  return lines.map(({ name, colour }, i) => {
    const at = { x: () => right, y: () => Number(scale.invert?.(ends[i])) };
    return Plot.text([name], { ...at, fill: `var(--${colour})`, textAnchor: 'start', dx: 9 });
  });
}

function heading({ title, subtitle }: DrawingOptions): Plot.Markish[] {
  const left = { frameAnchor: 'top-left', textAnchor: 'start', dx: -margins.marginLeft + 12 } as const;
  return [
    Plot.text([title], { ...left, dy: -56, fontSize: 15, fontWeight: 600 }),
    Plot.text([subtitle], { ...left, dy: -35, fontSize: 11, fill: 'var(--quiet)' }),
  ];
}

/** Heights of labels, moved as little as keeps them apart. */
function spread(heights: readonly number[]): number[] {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a]! - heights[b]!);
  const spreadOut = [...heights];
  for (let round = 0; round < 100; round += 1) {
    for (let k = 1; k < order.length; k += 1) {
      const [above, below] = [order[k - 1]!, order[k]!];
      const missing = labelHeight - (spreadOut[below]! - spreadOut[above]!);
      if (missing <= 0) continue;
      spreadOut[above]! -= missing / 2;
      spreadOut[below]! += missing / 2;
    }
  }
  return spreadOut;
}

/** The element as a file of its own, on a background of its own. */
function file(svg: SVGSVGElement, title: string): string {
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', title);
  const theme = (dark: 0 | 1) =>
    [
      ...Object.entries(colours).map(([name, pair]) => `--${name}: ${pair[dark]};`),
      ...[`--paper: ${paper[dark]};`, `color: ${ink[dark]};`],
    ].join(' ');
  const style = `<style>svg { ${theme(0)} } @media (prefers-color-scheme: dark) { svg { ${theme(1)} } }</style>`;
  svg.insertAdjacentHTML(
    'afterbegin',
    `${style}<rect width="${width}" height="${height}" rx="6" fill="var(--paper)"/>`,
  );
  return `${rounded(svg.outerHTML)}\n`;
}

/** Coordinates to two digits: nobody sees more, and files differ less. */
function rounded(svg: string): string {
  return svg.replace(/\d+\.\d{3,}/g, (digits) => String(Number(Number(digits).toFixed(2))));
}
