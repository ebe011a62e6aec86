/** Mien's head in a web page. */
export * from "./decoder.js";
export * from "./client.js";
export * from "./head.js";
