// Opens the demo page in Chromium and answers commands, one JSON line each: {"do": "eval", "code": ...}, {"do": "shot", "to": FILE}.
// node web_page.mjs CHROMIUM URL
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const [executablePath, url] = process.argv.slice(2);
const args = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];
const browser = await chromium.launch({ executablePath, args, timeout: 45000 });
const page = await browser.newPage({ viewport: { width: 480, height: 480 }, ignoreHTTPSErrors: true }); // certificates of tests sign themselves
const troubles = [];
page.on("pageerror", (error) => troubles.push(String(error)));
await page.goto(url);
console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.do === "shot") {
    await page.screenshot({ path: command.to });
    console.log(JSON.stringify({ troubles }));
  } else if (command.do === "wait") {
    await page.waitForFunction(command.code, null, { timeout: 40000, polling: 20 });
    console.log(JSON.stringify({ troubles }));
  } else {
    console.log(JSON.stringify({ value: await page.evaluate(command.code), troubles }));
  }
}
await browser.close();
