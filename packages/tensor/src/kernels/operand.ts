import type { Prelude } from '../kernel.ts';
import { operandLoadsF16, operandLoadsF32 } from './matmul-loads.wgsl.ts';

/**
 * Element type of what products read. Rounding it to f16 halves the bytes and is what subgroup matrices take anyway; sums,
 * the residual stream and logits are f32 always.
 */
export type Operand = 'f32' | 'f16';

/** What a kernel must enable, and its aliases for the types of the tensors it reads (X) or writes (Y). */
export function operandPrelude(aliases: { X?: Operand; Y?: Operand }): Pick<Prelude, 'enable' | 'aliases'> {
  return { enable: Object.values(aliases).includes('f16') ? ['f16'] : [], aliases };
}

const narrowF32 = /* wgsl */ `
fn narrow(v: f32) -> Y { return v; }
fn narrow4(v: vec4f) -> vec4<Y> { return v; }
`;

// What is too large for f16 becomes its largest value: an infinity would spread over the whole row.
const narrowF16 = /* wgsl */ `
fn narrow(v: f32) -> Y { return Y(clamp(v, -65504.0, 65504.0)); }
fn narrow4(v: vec4f) -> vec4<Y> { return vec4<Y>(clamp(v, vec4f(-65504.0), vec4f(65504.0))); }
`;

/** `narrow` and `narrow4`: f32 values as the type Y that a kernel writes. */
export const narrowChunk: Readonly<Record<Operand, string>> = { f32: narrowF32, f16: narrowF16 };

/** How operands are taken by products for subgroups of 32, and the element of their binding. */
export const operandLoads: Readonly<Record<Operand, string>> = { f16: operandLoadsF16, f32: operandLoadsF32 };
export const operandUnit: Readonly<Record<Operand, string>> = { f16: 'vec4u', f32: 'vec4f' };
