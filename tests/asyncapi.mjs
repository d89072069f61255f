// Reads { document, samples: [{ name, schema, value }] } as JSON and prints what is wrong with them as a JSON list of texts:
// the AsyncAPI document against the specification's own schema, each sample against the schema of that name in the document.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const require = createRequire(import.meta.url);
const Ajv = require("ajv");
const specification = require("@asyncapi/specs/schemas/3.0.0.json");

const { document, samples } = JSON.parse(await text(process.stdin));
const faults = [];

// The specification brings its own copy of the meta-schema.
const checkDocument = new Ajv({ strict: false, validateFormats: false, meta: false, validateSchema: false }).compile(specification);
if (!checkDocument(document)) {
  faults.push(...checkDocument.errors.map((error) => `the document at ${error.instancePath} ${error.message}`));
}

const ajv = new Ajv({ strict: false, allErrors: true, formats: { "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/ } });
ajv.addSchema(document, "document");
for (const { name, schema, value } of samples) {
  const check = ajv.getSchema(`document#/components/schemas/${schema}`);
  if (!check(value)) {
    faults.push(...check.errors.map((error) => `${name}${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`));
  }
}
process.stdout.write(JSON.stringify(faults));
