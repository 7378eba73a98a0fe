/** A package whose sources are read as validation text. */
export interface TextPackage {
  readonly name: string;
  readonly version: string;
  /** The folder of its sources. */
  readonly folder: string;
  readonly licence: string;
  /** Where it is developed; none of the repositories that js-22m was trained on. */
  readonly repository: string;
  /** Of the archive, as the registry gives it: the text is the same for everybody. */
  readonly integrity: string;
}

/** Six packages in TypeScript and six in JavaScript. Only what is recorded here is in the repository, not their code. */
export const textPackages: readonly TextPackage[] = [
  {
    name: '@xterm/xterm',
    version: '6.0.0',
    folder: 'src/common',
    licence: 'MIT',
    repository: 'xtermjs/xterm.js',
    integrity:
      'sha512-TQwDdQGtwwDt+2cgKDLn0IRaSxYu1tSUjgKarSDkUM0ZNiSRXFpjxEsvc/Zgc5kq5omJ+V0a8/kIM2WD3sMOYg==',
  },
  {
    name: 'ajv',
    version: '8.20.0',
    folder: 'lib',
    licence: 'MIT',
    repository: 'ajv-validator/ajv',
    integrity:
      'sha512-Thbli+OlOj+iMPYFBVBfJ3OmCAnaSyNn4M1vz9T6Gka5Jt9ba/HIR56joy65tY6kx/FCF5VXNB819Y7/GUrBGA==',
  },
  {
    name: 'cheerio',
    version: '1.2.0',
    folder: 'src',
    licence: 'MIT',
    repository: 'cheeriojs/cheerio',
    integrity:
      'sha512-WDrybc/gKFpTYQutKIK6UvfcuxijIZfMfXaYm8NMsPQxSYvf+13fXUJ4rztGGbJcBQ/GF55gvrZ0Bc0bj/mqvg==',
  },
  {
    name: 'commander',
    version: '14.0.3',
    folder: 'lib',
    licence: 'MIT',
    repository: 'tj/commander.js',
    integrity:
      'sha512-H+y0Jo/T1RZ9qPP4Eh1pkcQcLRglraJaSLoyOtHxu6AapkjWVCy2Sit1QQ4x3Dng8qDlSsZEet7g5Pq06MvTgw==',
  },
  {
    name: 'immer',
    version: '11.2.10',
    folder: 'src',
    licence: 'MIT',
    repository: 'immerjs/immer',
    integrity:
      'sha512-pzANBj+0A9u+prdhBJ14DVi44vCvVUQzBa8DKt6I0AMCokPHtt722BK9IX5bFC70xUSU9TnzLRIJLTGqIzjEFw==',
  },
  {
    name: 'koa',
    version: '3.3.0',
    folder: 'lib',
    licence: 'MIT',
    repository: 'koajs/koa',
    integrity:
      'sha512-NdsWJYxVzUuYt718DtEQRhUXqqsAPA4VlaUGrlidjh/T2TP/4OQXqQg4ouUHfHD9f+tgmwLZWPm+JQLgqM9YbA==',
  },
  {
    name: 'luxon',
    version: '3.7.2',
    folder: 'src',
    licence: 'MIT',
    repository: 'moment/luxon',
    integrity:
      'sha512-vtEhXh/gNjI9Yg1u4jX/0YVPMvxzHuGgCm6tC5kZyb08yjGWGnqAjGJvcXbqQR2P3MyMEFnRbpcdFS6PBcLqew==',
  },
  {
    name: 'pdf-lib',
    version: '1.17.1',
    folder: 'src/core',
    licence: 'MIT',
    repository: 'Hopding/pdf-lib',
    integrity:
      'sha512-V/mpyJAoTsN4cnP31vc0wfNA1+p20evqqnap0KLoRUN0Yk/p3wN52DOEsL4oBFcLdb76hlpKPtzJIgo67j/XLw==',
  },
  {
    name: 'pino',
    version: '10.4.0',
    folder: 'lib',
    licence: 'MIT',
    repository: 'pinojs/pino',
    integrity:
      'sha512-bk1ZMTwG/Vymx+zPoa28MhNzucFvXJWp3csrSuxuHPSMeUettaCoQ5Jvg07mtC4JGNpcfTwz41oVCnNgBK9+vA==',
  },
  {
    name: 'prosemirror-model',
    version: '1.25.13',
    folder: 'src',
    licence: 'MIT',
    repository: 'ProseMirror/prosemirror-model',
    integrity:
      'sha512-MlDMWGjYXaYOeCiO17jcybntCOzPnN+97U0809ke2QsgPtxW3n5/sD6ZKyJONUgMw1iP93ohZTjeKjnRJ7L6kQ==',
  },
  {
    name: 'ws',
    version: '8.23.0',
    folder: 'lib',
    licence: 'MIT',
    repository: 'websockets/ws',
    integrity:
      'sha512-wCkmX8QMOrKjgO8HW2WyDbTSGeqkocxgDzS9iR79rEAexty6/2qzilx3Ag8Tqf9ykop3irLKle0MtVn5qjVnoQ==',
  },
  {
    name: 'yjs',
    version: '13.6.33',
    folder: 'src',
    licence: 'MIT',
    repository: 'yjs/yjs',
    integrity:
      'sha512-q/UYvr1gOk4XII+Cu1CW2dINjYqJJFifTzogEaIARznrvX7uOlHsdTEXcnOBMuIsrCGEEKdNxi74kyMLZlKVfw==',
  },
];
