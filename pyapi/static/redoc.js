"use strict";

const styles = getComputedStyle(document.documentElement);
const textFont = styles.getPropertyValue("--text-font").trim();
const codeFont = styles.getPropertyValue("--code-font").trim();

// The address is relative, so that the page also works behind a proxy that adds a path prefix.
Redoc.init(
  "./openapi.json",
  {
    nativeScrollbars: true,
    sanitize: true,
    theme: {
      typography: {
        fontFamily: textFont,
        headings: { fontFamily: textFont },
        code: { fontFamily: codeFont },
      },
    },
  },
  document.getElementById("redoc"),
);
