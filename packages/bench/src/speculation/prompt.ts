/** What js-22m continues: code that has begun to repeat itself, as code does. */
export const prompt = `/** A point or a vector of the plane. */
export class Vector {
  constructor(x = 0, y = 0) {
    this.x = x;
    this.y = y;
  }

  /** Returns the sum of this vector and another one. */
  add(other) {
    return new Vector(this.x + other.x, this.y + other.y);
  }

  /** Returns the difference of this vector and another one. */
  subtract(other) {
    return new Vector(this.x - other.x, this.y - other.y);
  }

  /** Returns this vector times a number. */
  scale(factor) {
    return new Vector(this.x * factor, this.y * factor);
  }

  /** Returns the length of this vector. */
  length() {
    return Math.sqrt(this.x * this.x + this.y * this.y);
  }

  /** Returns the dot product of this vector and another one. */
  dot(other) {
`;
