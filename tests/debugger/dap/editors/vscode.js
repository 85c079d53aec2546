"use strict";
// Goes through a request with the client by which adapters for Visual Studio Code are tested, and prints what it saw.
//   node vscode.js PORT SOURCE LINE      the adapter's port; a line of the kernel that every request passes

const assert = require("assert");
const { DebugClient } = require("@vscode/debugadapter-testsupport");

const [port, path, line] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4])];
const client = new DebugClient("unused", "unused", "callgate");
const seen = {};

async function stopsAfter(request, reason, location = {}) {
    const [stack] = await Promise.all([client.assertStoppedLocation(reason, location), request()]);
    return stack.body.stackFrames;
}

async function value(expression) {
    return (await client.evaluateRequest({ expression, context: "watch" })).body.result;
}

async function main() {
    let printed = "";
    client.on("output", event => { if (event.body.category === "stdout") printed += event.body.output; });
    await client.start(port);
    const breakpoint = { path, line, verified: true };
    const [, , first] = await client.hitBreakpoint({ commands: ["df"], stopOnEntry: false }, breakpoint);
    const threads = (await client.threadsRequest()).body.threads;
    seen.threads = threads.map(thread => thread.name);
    const threadId = threads.find(thread => thread.name.includes("running")).id;
    seen.frames = first.body.stackFrames.map(frame => frame.name);
    const scopes = (await client.scopesRequest({ frameId: first.body.stackFrames[0].id })).body.scopes;
    const { variablesReference } = scopes[0];
    const registers = (await client.variablesRequest({ variablesReference })).body.variables;
    seen.eip = registers.find(register => register.name === "eip").value;
    seen.stops = [await value("retired")];

    await stopsAfter(() => client.stepInRequest({ threadId }), "step");
    seen.stops.push(await value("retired"));
    await stopsAfter(() => client.stepBackRequest({ threadId }), "step", { path, line });
    seen.stops.push(await value("retired"));
    await stopsAfter(() => client.continueRequest({ threadId }), "breakpoint", { path, line });
    seen.stops.push(await value("retired"));
    await stopsAfter(() => client.reverseContinueRequest({ threadId }), "breakpoint", { path, line });
    seen.stops.push(await value("retired"));
    await stopsAfter(() => client.customRequest("callgate/phase", { threadId }), "step");
    seen.stops.push(await value("retired"));

    const clear = { lines: [], breakpoints: [], source: { path } };
    assert.deepStrictEqual((await client.setBreakpointsRequest(clear)).body.breakpoints, []);
    await stopsAfter(() => client.continueRequest({ threadId }), "pause"); // the system has ended
    seen.printed = printed;
    await Promise.all([client.waitForEvent("terminated"), client.continueRequest({ threadId })]);
    await client.stop();
    console.log(JSON.stringify(seen));
}

main().then(() => process.exit(0), error => { console.error(error); process.exit(1); });
