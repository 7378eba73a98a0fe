import { invariant } from './errors.ts';

/** One `@group(0)` binding of a kernel, read from its WGSL. */
export interface KernelBinding {
  readonly name: string;
  readonly type: GPUBufferBindingType;
}

/** A compute shader with entry point `main`. Two kernels with the same code share a pipeline. */
export interface Kernel {
  /** Label in profiles and errors. */
  readonly name: string;
  /** Complete WGSL. */
  readonly code: string;
  /** In the order of their binding numbers, which count from 0 without gaps. */
  readonly bindings: readonly KernelBinding[];
}

/** What stands in front of a fixed WGSL body: extensions, type aliases, constants. */
export interface Prelude {
  readonly enable?: readonly string[];
  /** Further directives, e.g. `diagnostic(off, …);` */
  readonly directives?: readonly string[];
  /** e.g. `{ KV: 'f16' }` becomes `alias KV = f16;` */
  readonly aliases?: Readonly<Record<string, string>>;
  /** Numbers become `u32`; strings are taken as they are (`'1e-5f'`). */
  readonly constants?: Readonly<Record<string, number | string>>;
}

/** Chunks of a kernel, and what they want in front of it. */
export interface KernelPart {
  readonly prelude: Prelude;
  readonly chunks: readonly string[];
}

/** All of several preludes; of constants and aliases with the same name the last counts. */
export function mergePreludes(...preludes: readonly Prelude[]): Prelude {
  return {
    enable: [...new Set(preludes.flatMap(({ enable = [] }) => enable))],
    directives: [...new Set(preludes.flatMap(({ directives = [] }) => directives))],
    aliases: Object.assign({}, ...preludes.map(({ aliases }) => aliases)) as Record<string, string>,
    constants: Object.assign({}, ...preludes.map(({ constants }) => constants)) as Record<string, number>,
  };
}

const declaration =
  /@group\(0\)\s*@binding\((\d+)\)\s*var<(uniform|storage)(?:,\s*(read|read_write))?>\s*(\w+)/g;

/**
 * Puts a kernel together: prelude, then chunks in order. A chunk is WGSL without substitutions;
 * variants are other chunks with the same function signatures. `@binding(next)` takes the number after all others, for
 * chunks that add bindings to kernels of several kinds.
 */
export function kernel(name: string, prelude: Prelude, ...chunks: readonly string[]): Kernel {
  const code = numbered([
    ...(prelude.enable ?? []).map((extension) => `enable ${extension};`),
    ...(prelude.directives ?? []),
    ...Object.entries(prelude.aliases ?? {}).map(([key, value]) => `alias ${key} = ${value};`),
    ...Object.entries(prelude.constants ?? {}).map(([key, value]) => `const ${key} = ${literal(value)};`),
    ...chunks,
  ]);
  return { name, code, bindings: bindingsOf(name, code) };
}

/** Joins lines, with numbers for the bindings that have none. */
function numbered(lines: readonly string[]): string {
  const code = lines.join('\n');
  let next = 1 + Math.max(-1, ...[...code.matchAll(/@binding\((\d+)\)/g)].map(([, index]) => Number(index)));
  return code.replaceAll('@binding(next)', () => `@binding(${next++})`);
}

function literal(value: number | string): string {
  return typeof value === 'string' ? value : `${value}u`;
}

function bindingsOf(name: string, code: string): KernelBinding[] {
  const bindings: KernelBinding[] = [];
  for (const [, index, space, access, variable] of code.matchAll(declaration)) {
    const type = space === 'uniform' ? 'uniform' : access === 'read_write' ? 'storage' : 'read-only-storage';
    bindings[Number(index)] = { name: variable ?? '', type };
  }
  for (let i = 0; i < bindings.length; i++) {
    invariant(bindings[i], () => `kernel ${name} has no binding ${i}`);
  }
  return bindings;
}
