//! Every exit reason that the hardware manuals define: code, name, meaning, advice.
