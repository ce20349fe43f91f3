/**
 * Finds tasks that compile but do nothing, or act at the wrong time (docs/tasks.md, "The checker"). The caller passes
 * TypeScript in: users have their own version, and Barter runs without it.
 */
import type * as TypeScript from 'typescript';

export interface TaskFinding {
  file: string;
  line: number;
  column: number;
  message: string;
}

const FORGOTTEN = 'this task never runs: write yield* before it, or give it to a runner or to spawn';
const AWAITED = 'await does not run a task: write yield*, or runner.run(...) outside of tasks';
const CONDITION = 'a task is true whatever it would return: write (yield* ...)';
const CALLBACK = 'the caller of this function ignores the task that it returns, which never runs';
const ACTS = 'a function that returns a task acts when it is called: make it a generator (function*, *method)';

/** Checks the files of one program. */
export class TaskRules {
  private readonly ts: typeof TypeScript;
  private readonly checker: TypeScript.TypeChecker;
  private readonly findings: TaskFinding[] = [];

  constructor(ts: typeof TypeScript, checker: TypeScript.TypeChecker) {
    this.ts = ts;
    this.checker = checker;
  }

  check(file: TypeScript.SourceFile): TaskFinding[] {
    this.findings.length = 0;
    this.visit(file);
    return [...this.findings];
  }

  private visit(node: TypeScript.Node): void {
    const { ts } = this;
    if (ts.isExpressionStatement(node)) this.discarded(node.expression);
    else if (ts.isAwaitExpression(node)) this.report(node.expression, AWAITED);
    else if (ts.isIfStatement(node) || ts.isWhileStatement(node) || ts.isDoStatement(node)) {
      this.report(node.expression, CONDITION);
    } else if (ts.isForStatement(node)) this.ofFor(node);
    else if (ts.isConditionalExpression(node)) this.report(node.condition, CONDITION);
    else if (ts.isPrefixUnaryExpression(node)) {
      if (node.operator === ts.SyntaxKind.ExclamationToken) this.report(node.operand, CONDITION);
    } else if (ts.isBinaryExpression(node)) this.ofBinary(node);
    else if (ts.isCallExpression(node) || ts.isNewExpression(node)) this.ofCall(node);
    else if (ts.isFunctionLike(node)) this.ofFunction(node);
    ts.forEachChild(node, (child) => this.visit(child));
  }

  /** Checks an expression whose value is not used. */
  private discarded(expression: TypeScript.Expression): void {
    const { ts } = this;
    if (ts.isParenthesizedExpression(expression) || ts.isVoidExpression(expression)) {
      this.discarded(expression.expression);
    } else if (ts.isConditionalExpression(expression)) {
      this.discarded(expression.whenTrue);
      this.discarded(expression.whenFalse);
    } else if (ts.isBinaryExpression(expression) && this.isShortCircuit(expression)) this.discarded(expression.right);
    else if (ts.isBinaryExpression(expression) && expression.operatorToken.kind === ts.SyntaxKind.CommaToken) {
      this.discarded(expression.right);
    } else if (!ts.isYieldExpression(expression) && !this.isAssignment(expression)) this.report(expression, FORGOTTEN);
  }

  private ofFor(node: TypeScript.ForStatement): void {
    if (node.condition !== undefined) this.report(node.condition, CONDITION);
    if (node.incrementor !== undefined) this.discarded(node.incrementor);
  }

  private ofBinary(node: TypeScript.BinaryExpression): void {
    if (this.isShortCircuit(node)) this.report(node.left, CONDITION);
    else if (node.operatorToken.kind === this.ts.SyntaxKind.CommaToken) this.discarded(node.left);
  }

  /** Finds a function that returns a task where the callee wants a function that returns nothing. */
  private ofCall(node: TypeScript.CallExpression | TypeScript.NewExpression): void {
    for (const argument of node.arguments ?? []) {
      if (!this.mayBeFunction(argument)) continue;
      const wanted = this.checker.getContextualType(argument)?.getCallSignatures() ?? [];
      if (wanted.length === 0 || !wanted.every((signature) => this.isVoid(signature.getReturnType()))) continue;
      const given = this.checker.getTypeAtLocation(argument).getCallSignatures();
      if (given.some((signature) => this.isTask(signature.getReturnType()))) this.add(argument, CALLBACK);
    }
  }

  /** Skips other arguments, since asking for their types takes time. */
  private mayBeFunction(node: TypeScript.Expression): boolean {
    const { ts } = this;
    if (ts.isArrowFunction(node) || ts.isFunctionExpression(node)) return true;
    return ts.isIdentifier(node) || ts.isPropertyAccessExpression(node);
  }

  /** A function that returns a task and is not a generator may only choose between tasks. */
  private ofFunction(node: TypeScript.SignatureDeclaration): void {
    const { ts } = this;
    const { body, asteriskToken } = node as TypeScript.FunctionDeclaration;
    if (body === undefined || asteriskToken !== undefined || !ts.isBlock(body) || ts.isConstructorDeclaration(node))
      return;
    if (!this.hasTaskReturn(node)) return;
    const acting = this.firstAct(body);
    if (acting !== null) this.add(acting, ACTS);
  }

  private hasTaskReturn(node: TypeScript.SignatureDeclaration): boolean {
    const signature = this.checker.getSignatureFromDeclaration(node);
    return signature !== undefined && this.isTask(signature.getReturnType());
  }

  /** The first statement that does more than choose; checks of the caller (`assert...`) are allowed. */
  private firstAct(node: TypeScript.Node): TypeScript.Node | null {
    const { ts } = this;
    if (ts.isExpressionStatement(node)) return isAssertion(ts, node.expression) ? null : node;
    if (ts.isIterationStatement(node, false) || ts.isTryStatement(node)) return node;
    if (ts.isFunctionLike(node) || ts.isExpression(node)) return null;
    return ts.forEachChild(node, (child) => this.firstAct(child) ?? undefined) ?? null;
  }

  private isShortCircuit({ operatorToken: { kind } }: TypeScript.BinaryExpression): boolean {
    const { AmpersandAmpersandToken, BarBarToken } = this.ts.SyntaxKind;
    return kind === AmpersandAmpersandToken || kind === BarBarToken;
  }

  private isAssignment(expression: TypeScript.Expression): boolean {
    if (!this.ts.isBinaryExpression(expression)) return false;
    const { kind } = expression.operatorToken;
    return kind >= this.ts.SyntaxKind.FirstAssignment && kind <= this.ts.SyntaxKind.LastAssignment;
  }

  private isVoid(type: TypeScript.Type): boolean {
    return (type.flags & this.ts.TypeFlags.Void) !== 0;
  }

  /** A `Task`, an operation, or the generator behind one; of a union, any of its members. */
  private isTask(type: TypeScript.Type): boolean {
    if (type.isUnion()) return type.types.some((member) => this.isTask(member));
    return type.getProperty('mustBeIterated') !== undefined || type.getSymbol()?.name === 'Generator';
  }

  private report(node: TypeScript.Expression, message: string): void {
    if (this.isTask(this.checker.getTypeAtLocation(node))) this.add(node, message);
  }

  private add(node: TypeScript.Node, message: string): void {
    const file = node.getSourceFile();
    const { line, character } = file.getLineAndCharacterOfPosition(node.getStart());
    this.findings.push({ file: file.fileName, line: line + 1, column: character + 1, message });
  }
}

function isAssertion(ts: typeof TypeScript, expression: TypeScript.Expression): boolean {
  if (!ts.isCallExpression(expression)) return false;
  const { expression: callee } = expression;
  const name = ts.isPropertyAccessExpression(callee) ? callee.name.text : ts.isIdentifier(callee) ? callee.text : '';
  return name.startsWith('assert');
}
