;; Goes through a request in Emacs with dap-mode, and prints where the cursor stands after each step.
;;   emacs --batch -l emacs.el SETUP SOURCE LINE      the lines of docs/editors.md; where a breakpoint is put
(require 'package)
(package-initialize)
(require 'dap-mode)
(let ((inhibit-message t)) (load (nth 0 command-line-args-left) nil t))
(setq dap-print-io nil make-backup-files nil)

(defvar stopped nil "Whether the stack of a stop has come.")
(defvar ended nil)
(add-hook 'dap-stack-frame-changed-hook
          (lambda (session) (when (dap--debug-session-active-frame session) (setq stopped t))))
(add-hook 'dap-terminated-hook (lambda (_session) (setq ended t)))

(defun wait-for (variable)
  (let ((end (+ (float-time) 30)))
    (while (not (or (symbol-value variable) (> (float-time) end))) (accept-process-output nil 0.05))
    (unless (symbol-value variable) (error "No sign of: %s" variable))))

(defun step-by (command)
  (setq stopped nil)
  (call-interactively command)
  (wait-for 'stopped)
  (with-current-buffer (window-buffer (selected-window))
    (princ (format "%s:%d\n" (file-name-nondirectory (buffer-file-name)) (line-number-at-pos)))))

(find-file (nth 1 command-line-args-left))
(goto-char (point-min))
(forward-line (1- (string-to-number (nth 2 command-line-args-left))))
(setq command-line-args-left nil)
(dap-breakpoint-toggle)
(dap-debug '(:type "callgate" :request "launch" :name "df" :commands ["df"]))
(wait-for 'stopped)
(mapc #'step-by '(dap-continue dap-step-in callgate-step-back callgate-phase callgate-back-phase
                  callgate-step-back callgate-reverse-continue))
(dap-disconnect (dap--cur-session))
(wait-for 'ended)
(kill-emacs 0)
