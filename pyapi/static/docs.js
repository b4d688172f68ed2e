"use strict";

// The address is relative, so that the page also works behind a proxy that adds a path prefix.
SwaggerUIBundle({
  url: "./openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  tryItOutEnabled: true,
  persistAuthorization: false, // a token lives as long as the page and is written nowhere
  validatorUrl: "none", // no request leaves this server
});
