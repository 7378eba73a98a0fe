import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** What a shader file may hold: whole strings that a build step can shorten, never text put together at run time. */
const shaderFiles = {
  files: ['**/*.wgsl.ts'],
  rules: {
    'no-restricted-syntax': [
      'error',
      {
        selector: 'TemplateLiteral[expressions.length > 0]',
        message: 'Shader files hold plain strings: constants belong in the prelude of the kernel.',
      },
      { selector: 'ImportDeclaration', message: 'Shader files import nothing.' },
      {
        selector: 'VariableDeclarator[init.type!="TemplateLiteral"]',
        message: 'Shader files export strings only.',
      },
    ],
  },
};

const tests = {
  files: ['**/test/**/*.ts', 'packages/testing/**/*.ts'],
  rules: {
    // Matchers and parsed JSON are `any`; a wrong one fails the test itself.
    '@typescript-eslint/no-unsafe-argument': 'off',
    '@typescript-eslint/no-unsafe-assignment': 'off',
    '@typescript-eslint/no-unsafe-member-access': 'off',
    'max-lines-per-function': 'off', // a describe block is one function
  },
};

export default defineConfig(
  {
    ignores: ['**/dist/', '**/node_modules/', 'packages/*/models/', 'packages/bench/results/', '**/*.tmp.*'],
  },
  js.configs.recommended,
  {
    files: ['**/*.ts', '**/*.tsx'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: { allowDefaultProject: ['*.config.ts', 'apps/*/*.config.ts'] } },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-non-null-assertion': 'off', // every index into an array would need a branch
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      'max-lines': ['error', { max: 300, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 40, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ['**/*.js', '**/*.mjs'],
    languageOptions: { globals: { console: 'readonly', process: 'readonly', URL: 'readonly' } },
  },
  shaderFiles,
  tests,
);
